import { createHash } from 'node:crypto'
import type { Column } from '../model/schema.ts'

/**
 * How a value is written down for a comparison: equal values of two systems are equal texts in the same form, unequal ones
 * are not, and NULL is none. One definition each, which every connector follows that offers it:
 *
 * - `int`: decimal digits; a boolean is 1 or 0. `number`: decimal digits without an exponent, without zeros at the end of a
 *   fraction; NaN, Infinity, -Infinity. `decimal:<scale>`: with as many digits of a fraction as the scale says.
 * - `float32`, `float64`: the bits of IEEE 754 as lower-case hex digits, the sign of zero counts, every NaN is 7fc00000 or
 *   7ff8000000000000. A float32 as `float64` is the number nearest to its shortest text.
 * - `text`: the record model's text, which is PostgreSQL's. `char`: without spaces at the end. `hex`: bytes, lower case.
 *   `jsonb`: PostgreSQL's text of the value as jsonb.
 * - `date`: days since 2000-01-01, 8 hex digits. `time`, `timestamp`, `timestamptz`: microseconds since midnight, or since
 *   2000-01-01 (UTC), 16 hex digits. `timetz`: `time` and seconds west of UTC, 8 digits. `interval`: microseconds (16 digits), days
 *   (8), months (8). All two's complement; infinity is the largest and the smallest number. As PostgreSQL's send functions write them.
 * - `rfc3339`, `rfc3339z`: 2024-02-29T12:34:56.123456, with Z; what that cannot say as `text`.
 * - `pg:<oid>`: PostgreSQL's own binary form of a built-in type, for rows that are written as `pg-binary`.
 */
export type Form =
  | 'int'
  | 'number'
  | `decimal:${number}`
  | 'float32'
  | 'float64'
  | 'text'
  | 'char'
  | 'hex'
  | 'jsonb'
  | 'date'
  | 'time'
  | 'timetz'
  | 'timestamp'
  | 'timestamptz'
  | 'interval'
  | 'rfc3339'
  | 'rfc3339z'
  | `pg:${number}`

/**
 * How a row becomes bytes. `text`: for each column the text of its form, NULL as `~`. Texts, characters, bytes and json stand after
 * the number of their bytes and a colon, those of more than 1000 bytes as `#` and their MD5; a bar ends any other. `pg-binary`: as PostgreSQL's send functions write the values, which is
 * nearly as fast as COPY; see the connector.
 */
export type RowEncoding = 'text' | 'pg-binary'

/** Which table is compared, as the source has it. */
export interface ComparedTable {
  readonly namespace: string | null
  readonly name: string
  /** What the values are, with the source's names. */
  readonly columns: readonly Column[]
  /** Indexes into `columns`. */
  readonly key: readonly number[]
  /** Row condition in the side's own dialect. */
  readonly where: string | null
}

/** A column as one side has it. */
export interface SideColumn {
  /** The type in the side's own words. */
  readonly type: string
  /** Best first. */
  readonly forms: readonly Form[]
  /** The side sorts the column's values as numbers, uuids byte by byte: as every other side that says so. */
  readonly ordered: boolean
  readonly nullable: boolean
}

/** Rows with `from <= key < to`; null: no bound. Keys are texts of the leading columns that ranges are made of. */
export interface KeyRange {
  readonly kind: 'range'
  readonly from: readonly string[] | null
  readonly to: readonly string[] | null
}

/**
 * A part of a table. `key`: the row of a key, by the texts of its columns. `nulls`: rows with a NULL in the columns that ranges are made of, which no range holds. `buckets`, within
 * either: rows whose bucket is one of these, a bucket being the first hex digits of the MD5 of the row's key, or of a row without one.
 */
export interface Region {
  readonly rows:
    | KeyRange
    | { readonly kind: 'all' }
    | { readonly kind: 'nulls' }
    | { readonly kind: 'key'; readonly key: readonly string[] }
  readonly buckets?: readonly string[]
}

/** The whole bucket of a key: 32 hex digits. As the text of a row, from the key's texts. */
export function bucketOf(key: HashedRow['key']): string {
  const text = key.map((part) => (part === null ? '~' : `${Buffer.byteLength(part)}:${part}`)).join('')
  return createHash('md5').update(text).digest('hex')
}

/** How many rows a region has, and the hash of all of them; '' where it has none. */
export interface Digest {
  readonly rows: number
  readonly hash: string
}

/** Equal rows, counted: of a table without a key there may be many. */
export interface HashedRow {
  /** Texts of the key's columns in their forms, NULL as null; empty without a key. */
  readonly key: readonly (string | null)[]
  /** MD5, hex. */
  readonly hash: string
  readonly count: number
}

export interface RowFields {
  readonly key: HashedRow['key']
  /** For each column. */
  readonly fields: readonly (string | null)[]
}

/** What both sides agreed on. */
export interface Agreement {
  readonly encoding: RowEncoding
  /** For each column. */
  readonly forms: readonly Form[]
  /** Whether either side can have a NULL there, for each column. */
  readonly nullable: readonly boolean[]
  /** How many leading columns of the key ranges are made of; 0: none. */
  readonly ranged: number
}

/** The rows of one side, written as agreed. All methods may be called at once, as often as `ComparisonSide.parallel` says. */
export interface SideRows {
  /**
   * The key of the row that has `rows` rows of the range before it: where the next piece begins; null when the range has no
   * more.
   */
  bound(range: KeyRange, rows: number, signal: AbortSignal): Promise<readonly string[] | null>
  /** `careful`: hashes row by row, where the rows of a region are too many bytes to be hashed as one. */
  digest(region: Region, careful: boolean, signal: AbortSignal): Promise<Digest>
  /** Digests of a region's buckets, by the first so many hex digits; rows hashed one by one. */
  buckets(region: Region, digits: number, signal: AbortSignal): Promise<ReadonlyMap<string, Digest>>
  rows(region: Region, signal: AbortSignal): Promise<readonly HashedRow[]>
  /** Each column's text in its form, or its MD5 (`hashed`), of rows with a key: to tell which columns differ. */
  fields(region: Region, hashed: boolean, signal: AbortSignal): Promise<readonly RowFields[]>
}

export interface SideTable {
  /** For each column that is compared; null: the side does not have it. */
  readonly columns: readonly (SideColumn | null)[]
  readonly encodings: readonly RowEncoding[]
  /** Estimates; −1 where unknown. */
  readonly estimate: { readonly rows: number; readonly bytes: number }
  open(agreement: Agreement): SideRows
}

/** One side of a comparison: it only ever reads, and makes nothing. */
export interface ComparisonSide extends AsyncDisposable {
  /** How many calls are worth making at once. */
  readonly parallel: number
  /** Null: there is no such table. */
  table(request: ComparedTable, signal: AbortSignal): Promise<SideTable | null>
}
