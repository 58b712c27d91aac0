import type { Logger } from './logger.ts'

/** Options that say how long something lasts, by the unit that they are in. */
interface Times {
  readonly seconds?: Readonly<Record<string, number | undefined>>
  readonly milliseconds?: Readonly<Partial<Record<keyof typeof FEWEST, number | undefined>>>
}

/** Fewer milliseconds than these are of use to nobody; so many seconds may well be meant. */
const FEWEST = { deadline: 100, keepAlive: 1000, retryInterval: 10, timeout: 100 } as const

/**
 * What people plan is in seconds (`ttl`, `idle`, `lease`); what programs wait for is in milliseconds, as in Node and in
 * the protocol's own `retry:` line. A value that looks like the other unit is taken as it is, with a warning. Seconds do
 * when they are the milliseconds of whole minutes: 3600000 is an hour, or 41 days and 16 hours.
 */
export function warnOfOtherUnit(logger: Logger, { seconds = {}, milliseconds = {} }: Times): void {
  const warn = (option: string, value: number, units: [string, string], meant: number) =>
    logger.warn(
      { option, value },
      `"${option}" is in ${units[0]}, and ${value} looks like ${units[1]}; write ${option}: ${meant}`,
    )
  for (const [option, value = 0] of Object.entries(seconds)) {
    if (value >= 60_000 && value % 60_000 === 0)
      warn(option, value, ['seconds', 'milliseconds'], value / 1000)
  }
  for (const [option, value = 0] of Object.entries(milliseconds)) {
    const few = value > 0 && value < FEWEST[option as keyof typeof FEWEST]
    if (few) warn(option, value, ['milliseconds', 'seconds'], value * 1000)
  }
}
