import type { Position, View } from '../model/position.ts'
import type { TableId, TableSchema } from '../model/schema.ts'
import type { Chunk } from '../sdk/source.ts'
import { isAlive } from './lease.ts'
import type { Cells, StateConnection } from './sqlite-connection.ts'
import type {
  ChunkRecord,
  ControlRequest,
  DeadLetter,
  DesiredState,
  Holder,
  PendingRequest,
  PipelineRecord,
  TableRecord,
  TableState,
  Verified,
  ViewRecord,
} from './store.ts'

export function pipelineOf(cells: Cells, file: StateConnection): PipelineRecord {
  const holder = holderOf(cells)
  return {
    name: String(cells['name']),
    source: String(cells['source']),
    sink: String(cells['sink']),
    sourceLabel: String(cells['source_label']),
    sinkLabel: String(cells['sink_label']),
    epoch: Number(cells['epoch']),
    holder,
    alive: holder !== null && isAlive(holder, Number(cells['heartbeat']), file.clock(), file.processes),
    desired: cells['desired'] as DesiredState,
    position: cells['position'] as Position | null,
    report: cells['report'] as string | null,
    verified: verifiedOf(file, String(cells['name'])),
    createdAt: Number(cells['created_at']),
    updatedAt: Number(cells['updated_at']),
  }
}

/** In the pipeline's memory, which a reset clears: another copy was not looked at. */
export const VERIFIED_KEY = 'store.verified'

function verifiedOf(file: StateConnection, name: string): Verified | null {
  const text = file.get('SELECT value FROM memory WHERE pipeline = ? AND key = ?', name, VERIFIED_KEY)?.['value']
  return text === undefined ? null : (JSON.parse(String(text)) as Verified)
}

function holderOf(cells: Cells): Holder | null {
  if (cells['holder_pid'] === null) return null
  return { host: String(cells['holder_host']), pid: Number(cells['holder_pid']), started: String(cells['holder_started']) }
}

export function tablesOf(file: StateConnection, pipeline: string): TableRecord[] {
  return file.all('SELECT * FROM tables WHERE pipeline = ? ORDER BY id', pipeline).map((cells) => ({
    id: cells['id'] as TableId,
    state: cells['state'] as TableState,
    schema: JSON.parse(String(cells['schema'])) as TableSchema,
    target: JSON.parse(String(cells['target'])) as TableRecord['target'],
    rule: cells['rule'] as TableRecord['rule'],
    counters: cells['counters'] as string | null,
    terms: cells['terms'] === null ? null : (JSON.parse(String(cells['terms'])) as TableRecord['terms']),
  }))
}

export function chunkOf(cells: Cells): ChunkRecord {
  return {
    chunk: JSON.parse(String(cells['chunk'])) as Chunk,
    view: cells['view'] as number | null,
    done: cells['done'] === 1,
    rows: Number(cells['rows']),
    bytes: Number(cells['bytes']),
  }
}

export function viewOf(cells: Cells): ViewRecord {
  return { id: Number(cells['id']), view: cells['view'] as View | null, viewEnd: cells['view_end'] as Position | null }
}

export function deadLetterOf(cells: Cells): DeadLetter {
  return {
    id: Number(cells['id']),
    table: cells['table_id'] as TableId,
    place: String(cells['place']),
    op: String(cells['op']),
    stage: cells['stage'] as DeadLetter['stage'],
    code: String(cells['code']),
    reason: String(cells['reason']),
    record: String(cells['record']),
    at: Number(cells['at']),
  }
}

export function requestsOf(file: StateConnection, name: string): readonly PendingRequest[] {
  const rows = file.all('SELECT id, request FROM requests WHERE pipeline = ? ORDER BY id', name)
  return rows.map((cells) => ({ id: Number(cells['id']), request: JSON.parse(String(cells['request'])) as ControlRequest }))
}
