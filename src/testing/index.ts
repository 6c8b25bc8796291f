/** `tailrace/testing`: suites that every connector and store must pass, and real servers to run them against. */
export { startPostgres, type PostgresOptions, type PostgresServer } from './postgres-server.ts'
export { sinkSuite } from './sink-suite.ts'
export { storeSuite } from './store-suite.ts'
export { tempFolder, type TempFolder } from './temp-folder.ts'
