/** SQLITE_MAX_COLUMN of the SQLite in Node. */
export const MAX_COLUMNS = 2000
/** SQLite has no limit of its own on names; this keeps statements in bounds. */
export const MAX_IDENTIFIER_BYTES = 1024
