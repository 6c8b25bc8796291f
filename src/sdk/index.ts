/** `tailrace/sdk`: what a connector author imports. */
export * from '../model/batch.ts'
export { UNCHANGED, type Change, type Row, type Value } from '../model/change.ts'
export { formatType, keyOrder, type LogicalType, type ScalarKind } from '../model/logical-type.ts'
export type { Position, Transaction, View } from '../model/position.ts'
export { changesOf, changesOfSlice } from '../model/row-view.ts'
export {
  columnAt,
  keyNames,
  parseTableName,
  tableId,
  type Column,
  type ForeignKey,
  type Index,
  type Sequence,
  type TableId,
  type TableSchema,
} from '../model/schema.ts'
export { oldTextAt, pickRows, SliceBuilder, textAt, textRowsToSlice, type TextRow } from '../model/slice-builder.ts'
export type * from './compare.ts'
export { defineConnector, type ConfigSchema, type Connector, type ConnectorContext, type ConnectorUri, type Memory } from './connector.ts'
export { asTailraceError, ERRORS, TailraceError, type ErrorCode, type ErrorDetails, type Problem, type RetryClass } from './errors.ts'
export type { Logger, LogFields } from './logger.ts'
export { selectTables, tablePattern } from './selection.ts'
export type {
  ApplyOptions,
  Checkpoint,
  IfExists,
  Loader,
  LoadRequest,
  Sink,
  SinkCapabilities,
  SinkCheckpoints,
  SinkTable,
  Writer,
} from './sink.ts'
export type {
  Chunk,
  ChunkPlan,
  Purpose,
  Retention,
  Selection,
  Snapshot,
  SnapshotRequest,
  Source,
  SourceCapabilities,
  SourceTable,
  StreamRequest,
} from './source.ts'
export type { Transform, TransformContext, TransformResult } from './transform.ts'
