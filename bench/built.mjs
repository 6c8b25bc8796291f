// The command as it is shipped: the compiled package, not the sources.
const emit = process.emitWarning
process.emitWarning = (warning, ...rest) => {
  const type = typeof rest[0] === 'object' ? rest[0]?.type : rest[0]
  if (type !== 'ExperimentalWarning') emit.call(process, warning, ...rest)
}
const { main } = await import('../dist/cli/main.js')
process.exitCode = await main(process.argv.slice(2))
