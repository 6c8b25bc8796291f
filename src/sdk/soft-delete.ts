/**
 * `--deletes soft`: the target table has this column besides the source's, boolean, not null, false. A delete and the old
 * key of a key change set it to true and leave the row as it was last; a truncate sets it in every row; a row that comes
 * again is false again.
 */
export const DELETED_COLUMN = '_deleted'
