// In every node of the soak run: on SIGUSR2 it says what it holds after a collection.
process.on('SIGUSR2', () => {
  globalThis.gc?.()
  const { heapUsed, external } = process.memoryUsage()
  const handles = process.getActiveResourcesInfo().length
  process.stdout.write(`HOLDS ${heapUsed + external} ${handles}\n`)
})
