import { createServer } from 'node:net'

const given = new Set<number>()

/** A loopback port that is free now, `port + also` too; never the same one twice in a process. */
export async function freePort(also = 0): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    // Below the range from which the system takes ports for outgoing connections.
    const port = 11_000 + Math.floor(Math.random() * 20_000)
    if (given.has(port) || !(await isFree(port)) || (also > 0 && !(await isFree(port + also)))) continue
    given.add(port)
    return port
  }
  throw new Error('No free port was found on 127.0.0.1 after 200 attempts.')
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
