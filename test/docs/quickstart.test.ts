import { test } from 'vitest'
import { nodeRelease } from '../support/node-release.ts'
import { tarball } from '../support/packed.ts'
import { installRow } from '../versions/install.ts'
import { MATRIX } from '../versions/matrix.ts'
import { quickStart } from './quickstart.ts'

test('the first program of README.md, pasted into an empty folder with the packed package, runs', async () => {
  const row = MATRIX.find(({ store, sdk }) => store === 'sqlite' && sdk === 'v1')!
  const release = await nodeRelease(row.node)
  await quickStart(await installRow(row, release, await tarball()), release.node)
}, 120_000)
