import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'

/** Tells the test that started this process where it serves, and ends on SIGTERM as a real host would. */
export function ready(server: Server, close: () => Promise<void>): void {
  const announce = () => {
    const { port } = server.address() as AddressInfo
    process.stdout.write(`READY http://127.0.0.1:${port}\n`)
  }
  if (server.listening) announce()
  else server.once('listening', announce)
  process.once('SIGTERM', () => {
    close().then(
      () => process.exit(0),
      (error: unknown) => {
        process.stderr.write(`${String(error)}\n`)
        process.exit(1)
      },
    )
  })
}
