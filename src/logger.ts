/**
 * Where warnings and errors go. The shape of a pino logger, so that `pino()` can be passed as it is; `console`
 * fits after swapping nothing but the argument order.
 */
export interface Logger {
  debug(facts: object, message: string): void
  info(facts: object, message: string): void
  warn(facts: object, message: string): void
  error(facts: object, message: string): void
}

/** A url for the log: without its query, in which a key may stand. */
export function withoutQuery(url: string): string {
  return url.replace(/[?#].*$/s, '')
}

/** One line per warning or error on stderr; quiet otherwise. */
export const defaultLogger: Logger = {
  debug() {},
  info() {},
  warn: (facts, message) => write('warn', facts, message),
  error: (facts, message) => write('error', facts, message),
}

function write(level: string, facts: object, message: string): void {
  process.stderr.write(`mcp-persist ${level}: ${message} ${JSON.stringify(facts)}\n`)
}
