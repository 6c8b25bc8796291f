import assert from 'node:assert/strict'
import { it } from 'node:test'
import { isWidening } from './widening.ts'

const WIDER: readonly (readonly [string, string])[] = [
  ['smallint', 'bigint'],
  ['integer', 'numeric'],
  ['integer', 'numeric(12,2)'],
  ['bigint', 'numeric(19,0)'],
  ['real', 'double precision'],
  ['character varying(3)', 'character varying(4)'],
  ['character varying(3)', 'character varying'],
  ['character varying', 'text'],
  ['character(3)', 'text'],
  ['character(3)', 'character(5)'],
  ['numeric(10,2)', 'numeric(12,4)'],
  ['numeric(10,2)', 'numeric'],
  ['timestamp(3) without time zone', 'timestamp without time zone'],
  ['timestamp(3) with time zone', 'timestamp(6) with time zone'],
  ['integer[]', 'bigint[]'],
  ['json', 'jsonb'],
]
const NOT_WIDER: readonly (readonly [string, string])[] = [
  ['bigint', 'integer'],
  ['integer', 'numeric(9,0)'],
  ['integer', 'text'],
  ['text', 'integer'],
  ['double precision', 'numeric'],
  ['character varying', 'character varying(9)'],
  ['character varying(9)', 'character varying(8)'],
  ['numeric', 'numeric(38,10)'],
  ['numeric(10,2)', 'numeric(11,4)'],
  ['numeric(10,2)', 'numeric(10,1)'],
  ['timestamp without time zone', 'timestamp with time zone'],
  ['timestamp without time zone', 'date'],
  ['integer', 'integer[]'],
  ['bit(3)', 'bit(4)'],
  ['text', 'character varying'],
  ['jsonb', 'json'],
]

for (const [from, to] of WIDER) it(`every ${from} is a ${to}`, () => assert.equal(isWidening(from, to), true))
for (const [from, to] of NOT_WIDER)
  it(`not every ${from} is a ${to}, or not with the same value`, () => assert.equal(isWidening(from, to), false))
