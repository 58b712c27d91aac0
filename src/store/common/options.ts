import { errorText, PersistError } from '../../errors.ts'

/** @throws PersistError `INVALID_ARGUMENT` unless `value` is a finite number above 0, or left out. */
export function positive(name: string, value: number | undefined): void {
  if (value === undefined || (typeof value === 'number' && value > 0 && Number.isFinite(value))) return
  throw new PersistError('INVALID_ARGUMENT', `${name} must be a positive number, not ${String(value)}.`)
}

/** Every option of these that is given must be a positive number. */
export function allPositive(options: Readonly<Record<string, number | undefined>>): void {
  for (const [name, value] of Object.entries(options)) positive(name, value)
}

/** A backend's driver cannot be loaded: `cause` is what `import()` said. `hint` goes on with the sentence. */
export function driverMissing(driver: string, cause: unknown, hint = ''): PersistError {
  const missing = (cause as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND'
  const facts = missing ? 'is not installed' : `cannot be loaded (${errorText(cause).split('\n', 1)[0]})`
  const sentence = `The package ${driver} ${facts}; run \`npm install ${driver}\`${hint}.`
  return new PersistError('DRIVER_MISSING', sentence, { cause })
}
