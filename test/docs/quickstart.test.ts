import { rm } from 'node:fs/promises'
import { onTestFinished, test } from 'vitest'
import { nodeRelease } from '../support/node-release.ts'
import { install, tarball } from '../support/packed.ts'
import { installRow } from '../versions/install.ts'
import { MATRIX } from '../versions/matrix.ts'
import { quickStart } from './quickstart.ts'

test('the first program of README.md, pasted into an empty folder with the packed package, runs', async () => {
  const row = MATRIX.find(({ store, sdk }) => store === 'sqlite' && sdk === 'v1')!
  const release = await nodeRelease(row.node)
  await quickStart(await installRow(row, release, await tarball()), release.node)
}, 120_000)

test('and where packages are links, as pnpm installs them', async () => {
  const folder = await install(['@modelcontextprotocol/sdk', 'better-sqlite3'])
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  await quickStart(folder)
}, 60_000)
