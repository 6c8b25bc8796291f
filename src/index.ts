/**
 * The library:
 *
 *   import { sync, openSource, postgres, duckdb } from 'tailrace'
 *   const report = await sync({ source: postgres({ host: 'db', database: 'shop' }), sink: duckdb({ path: 'shop.db' }) })
 *
 *   await using source = await openSource('postgres://app@db/shop')
 *   for await (const tx of source.stream<{ id: number; email: string }>({ tables: ['users'] })) {
 *     for (const change of tx.changes) console.log(change.op, change.after?.email)
 *     await source.confirm(tx.position)
 *   }
 */
export { duckdb, endpoint, memory, nullSink, postgres, sqlite, type EndpointInput, type TypedEndpoint } from './library/endpoints.ts'
export { remove, reset, status, tables, type ManageOptions, type ManageResult, type PipelineTable } from './library/manage.ts'
export { openSource, type OpenSourceOptions, type SourceReader, type StreamOptions } from './library/open-source.ts'
export { plan, sync, SyncError, type PlanOptions, type Surroundings, type SyncOptions } from './library/pipeline.ts'
export type { PipelineSettings } from './library/settings.ts'
export type { PipelineStatus } from './library/status.ts'
export type { VerifyReport } from './library/verification.ts'
export { verify, type VerifyOptions } from './library/verify.ts'
export type { SourceTransaction } from './library/transactions.ts'

export type { Plan } from './engine/options.ts'
export type { Guarantee, Lag, PipelineStateName, Report, ReportProblem, TableReport } from './engine/report.ts'
export type { Barrier } from './model/batch.ts'
export { UNCHANGED, type Change, type Row, type Value } from './model/change.ts'
export type { LogicalType } from './model/logical-type.ts'
export type { Position } from './model/position.ts'
export type { Column, TableId, TableSchema } from './model/schema.ts'
export { defineConnector, type Connector, type ConnectorContext, type ConnectorUri } from './sdk/connector.ts'
export { ProblemsError } from './sdk/config/problems.ts'
export { TailraceError, type ErrorCode, type Problem, type RetryClass } from './sdk/errors.ts'
export { createLogger, silentLogger, type Logger, type LoggerOptions } from './sdk/logger.ts'
export type { Transform, TransformContext, TransformResult } from './sdk/transform.ts'
