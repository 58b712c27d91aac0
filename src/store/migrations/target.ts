/** One file of `migrations/<dialect>/`, never edited once released. */
export interface Migration {
  /** The file's name without `.sql`; its number is its place in the order. */
  readonly name: string
  /** `events`: needed by every user. `sessions`: session records, nodes and what they say to each other, tasks; left out by `eventsOnly`. */
  readonly part: 'events' | 'sessions'
  /**
   * The last migration (its number) that a release must know to go on beside this one; null: none goes on that does not
   * know this one.
   */
  readonly compatible: string | null
  readonly sql: string
  /** SHA-256 of the text, hexadecimal. */
  readonly checksum: string
}

export interface AppliedMigration {
  readonly name: string
  /** As in {@link Migration}, kept in the database for releases that do not have the file. */
  readonly compatible: string | null
  readonly checksum: string
  /** Milliseconds since the Unix epoch. */
  readonly appliedAt: number
}

/**
 * What a database must be able to do to be migrated. It keeps a table `mcp_migrations (name PRIMARY KEY, checksum,
 * applied_at, compatible)`, which comes into being with the first `apply`. Release 0.1.0 made it without `compatible`:
 * `apply` adds the column, and where it is missing all is null.
 */
export interface MigrationTarget {
  /** The folder under `migrations/`. */
  readonly dialect: 'sqlite' | 'postgres'
  /** What was applied, by name. Creates nothing: empty where the table is missing. */
  applied(): Promise<readonly AppliedMigration[]>
  /**
   * In one transaction: inserts the row of this migration, then runs its SQL. The row comes first, so that of many
   * processes that start at once one holds its key and the others wait, find it taken, and step aside: they resolve
   * with false and have changed nothing.
   */
  apply(migration: Migration): Promise<boolean>
}
