import type { PostgresQuery } from './postgres-driver.ts'

/** A piece of SQL. What stands between its strings is another piece, or a value that becomes a parameter. */
class Piece {
  readonly strings: readonly string[]
  readonly values: readonly unknown[]

  constructor(strings: readonly string[], values: readonly unknown[]) {
    this.strings = strings
    this.values = values
  }
}

export type Sql = Piece

/** `sql`SELECT ${value} FROM ${piece}``: pieces are put in as they are, everything else travels as a parameter. */
export function sql(strings: TemplateStringsArray, ...values: readonly unknown[]): Sql {
  return new Piece(strings, values)
}

/** Text that is SQL already. Never anything that came from outside. */
export function raw(text: string): Sql {
  return new Piece([text], [])
}

export function statement(piece: Sql): PostgresQuery {
  const values: unknown[] = []
  const write = ({ strings, values: between }: Sql): string =>
    strings.reduce((text, next, i) => {
      const value = between[i - 1]
      return text + (value instanceof Piece ? write(value) : `$${values.push(value)}`) + next
    })
  return { text: write(piece), values }
}
