import type { Command } from 'commander'
import { bytes, facts, print } from '../output.ts'
import { storeUrl, URL_HELP } from '../store-url.ts'
import { READ_ONLY, withStore } from '../with-store.ts'

interface Options {
  url?: string
  json?: boolean
}

export function addStats(program: Command): void {
  program
    .command('stats')
    .description('count sessions, events and nodes')
    .option('--url <url>', URL_HELP)
    .option('--json', 'one JSON document on stdout')
    .action(stats)
}

async function stats(options: Options): Promise<void> {
  await withStore(storeUrl(options.url), READ_ONLY, async (store) => {
    const found = await store.stats()
    const lines = facts([
      ['backend', store.backend],
      ['sessions', found.sessions.toLocaleString('en')],
      ['events', found.events.toLocaleString('en')],
      ['nodes', found.nodes.toLocaleString('en')],
      ...(found.bytes === undefined ? [] : [['size', bytes(found.bytes)] as const]),
    ])
    await print({ backend: store.backend, ...found }, lines, options)
  })
}
