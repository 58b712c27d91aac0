import type { AppRequest } from '../../app/app.ts'
import type { Settings } from '../../options.ts'
import type { SessionState } from '../../store/port.ts'

/** Only clients of 2025-11-25 and later know what to do with empty data. */
export function primes(
  request: AppRequest,
  { protocolVersion }: SessionState,
  { priming }: Settings,
): boolean {
  return priming && (request.headers['mcp-protocol-version'] ?? protocolVersion) >= '2025-11-25'
}
