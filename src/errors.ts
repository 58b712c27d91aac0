/**
 * Every error this package throws on purpose. Messages may improve between releases; codes stay.
 *
 * | code | meaning | what to do |
 * | --- | --- | --- |
 * | `INVALID_ARGUMENT` | an option, URL or argument is wrong | correct it; the sentence says how |
 * | `DRIVER_MISSING` | the backend's driver package is not installed | install the package named in the sentence |
 * | `STORE_UNAVAILABLE` | the store did not answer, or not in time | look at the store; live sessions go on meanwhile |
 * | `STORE_CORRUPT` | the store answered with something that cannot be right | restore or replace the database |
 * | `STORE_READ_ONLY` | the store cannot be written to | check permissions and disk space |
 * | `STORE_CLOSED` | the store was used after `close()` | do not use it any more |
 * | `NOT_MIGRATED` | the database lacks the schema | run the command named in the sentence |
 * | `SCHEMA_TOO_NEW` | a newer release has migrated, or stored a task, and this one cannot go on with it | upgrade the package |
 * | `MIGRATION_CHANGED` | an applied migration file was edited afterwards | reinstall the package |
 * | `SESSION_GONE` | the session does not exist, has expired or was terminated | the client must initialize again |
 * | `SESSION_LIMIT` | the principal has as many sessions as it may have | end some, or raise `maxSessionsPerPrincipal` |
 * | `FENCED` | another node owns the session now | nothing: the session lives on there |
 * | `OVERLOADED` | a bounded queue is full | slow down, or raise the bound |
 */
export type ErrorCode =
  | 'INVALID_ARGUMENT'
  | 'DRIVER_MISSING'
  | 'STORE_UNAVAILABLE'
  | 'STORE_CORRUPT'
  | 'STORE_READ_ONLY'
  | 'STORE_CLOSED'
  | 'NOT_MIGRATED'
  | 'SCHEMA_TOO_NEW'
  | 'MIGRATION_CHANGED'
  | 'SESSION_GONE'
  | 'SESSION_LIMIT'
  | 'FENCED'
  | 'OVERLOADED'

/** An error with a stable {@link ErrorCode}; `message` is one sentence with the facts and the way out. */
export class PersistError extends Error {
  override readonly name = 'PersistError'
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}

export function isPersistError(error: unknown, code?: ErrorCode): error is PersistError {
  return error instanceof PersistError && (code === undefined || error.code === code)
}

/** The text of whatever was thrown; drivers sometimes throw an AggregateError with an empty message. */
export function errorText(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') {
    return error.errors.map(errorText).join('; ')
  }
  return error instanceof Error ? error.message : String(error)
}

/**
 * `url` with its password replaced, fit for logs and errors. A password that should have been percent-encoded and was
 * not (`/`, `?`, `#`, `@`) is masked too: rather too much than too little.
 */
export function maskUrl(url: string): string {
  const plain = url.replace(/(\/\/[^/?#@]*?:)[^/?#]*(@)/, '$1***$2')
  const masked = plain.includes(':***@') ? plain : url.replace(/(\/\/[^/?#@:]*:).*(@)/s, '$1***$2')
  return masked.replace(/([?&](?:password|sslpassword|sentinelPassword|token)=)[^&#]*/gi, '$1***')
}
