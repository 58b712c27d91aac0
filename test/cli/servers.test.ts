import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, inject, test } from 'vitest'
import { assertClean, fails, fill, json, needsBuild, run, SECRET, withStore } from './support.ts'

needsBuild()

const name = () => `cli_${randomBytes(6).toString('hex')}`

function withParameter(url: string, parameter: string): string {
  return `${url}${url.includes('?') ? '&' : '?'}${parameter}`
}

const BACKENDS = {
  redis: () => withParameter(inject('redisUrl'), `keyPrefix=${name()}:`),
  'redis cluster': () => withParameter(inject('redisClusterUrl'), `keyPrefix=${name()}:`),
  postgres: () => withParameter(inject('postgresUrl'), `schema=${name()}`),
}

for (const [title, fresh] of Object.entries(BACKENDS)) {
  describe(title, () => {
    test('migrate, doctor, stats, sessions, events, sweep', async () => {
      const url = fresh()
      const backend = title.split(' ')[0]
      await json(['migrate', '--url', url])
      const ids = await withStore(url, fill)
      assert.equal(ids.length, 4)
      const doctor = await json(['doctor', '--url', url])
      assert.deepEqual([doctor.ok, doctor.backend], [true, backend])
      const { sessions, events, nodes } = await json(['stats', '--url', url])
      assert.deepEqual({ sessions, events, nodes }, { sessions: 2, events: 5, nodes: 1 })
      const listed = await json(['sessions', 'list', '--url', url])
      assert.deepEqual(
        (listed.sessions as { id: string }[]).map(({ id }) => id),
        ['one', 'two'],
      )
      assert.equal(((await json(['events', 'one', '--url', url])).events as unknown[]).length, 4)
      assert.equal((await json(['sessions', 'terminate', 'one', '--url', url])).terminated, true)
      await fails(['sessions', 'show', 'one', '--url', url], 1, /There is no session one/)
      assert.equal((await json(['sweep', '--url', url])).more, false)
    })
  })
}

test('postgres: an unmigrated schema says which command to run; doctor does not make it', async () => {
  const url = BACKENDS.postgres()
  for (const command of [['stats'], ['sweep']]) {
    await fails([...command, '--url', url], 1, /npx mcp-persist migrate --url/)
  }
  const { ok, checks } = await json(['doctor', '--url', url], 1)
  assert.equal(ok, false)
  assert.match(JSON.stringify(checks), /"connection","ok":true.*npx mcp-persist migrate/)
  const { migrations } = await json(['migrate', '--status', '--url', url])
  assert.deepEqual(
    (migrations as { appliedAt: null }[]).map(({ appliedAt }) => appliedAt),
    [null, null, null],
  )
  const schema = name()
  assert.deepEqual(await json(['migrate', '--schema', schema, '--url', url]), {
    applied: ['0001_events', '0002_sessions', '0003_tasks', '0004_principals'],
  })
  await json(['stats', '--url', withParameter(inject('postgresUrl'), `schema=${schema}`)])
})

test('postgres: migrate by ten processes at once', async () => {
  const url = BACKENDS.postgres()
  const outcomes = await Promise.all(
    Array.from({ length: 10 }, () => run(['migrate', '--json', '--url', url])),
  )
  for (const outcome of outcomes) assert.deepEqual([outcome.code, outcome.stderr], [0, ''])
  const applied = outcomes.flatMap(({ stdout }) => (JSON.parse(stdout) as { applied: string[] }).applied)
  assert.deepEqual(applied.sort(), ['0001_events', '0002_sessions', '0003_tasks', '0004_principals'])
})

test('redis: data of a newer release is refused', async () => {
  const keyPrefix = `${name()}:`
  const url = withParameter(inject('redisUrl'), `keyPrefix=${keyPrefix}`)
  const { Redis } = await import('ioredis')
  const client = new Redis(inject('redisUrl'))
  await client.set(`${keyPrefix}layout`, '99')
  client.disconnect()
  await fails(['migrate', '--url', url], 1, /layout 99.*upgrade mcp-persist/)
  await fails(['stats', '--url', url], 1, /layout 99.*upgrade mcp-persist/)
  assert.match((await run(['doctor', '--url', url])).stdout, /✗ schema: .*layout 99/)
})

test('a backend that is down: a failed check, exit 1, no stack trace, no password', async () => {
  // Port 1 is nobody's.
  const urls = [
    `redis://app:${SECRET}@127.0.0.1:1/0?timeout=400`,
    `redis+cluster://app:${SECRET}@127.0.0.1:1?timeout=400`,
    `postgres://app:${SECRET}@127.0.0.1:1/db?timeout=400`,
  ]
  await Promise.all(
    urls.map(async (url) => {
      const doctor = await run(['doctor', '--url', url])
      assert.equal(doctor.code, 1)
      assert.match(doctor.stdout, /✗ store: /)
      assert.equal(doctor.stderr, '')
      assertClean(doctor)
      const commands = [['migrate'], ['events', 's', '--follow']]
      for (const command of commands) await fails([...command, '--url', url], 1, /\*\*\*@127\.0\.0\.1:1/)
      const { error } = await json(['stats', '--url', url], 1)
      assert.equal((error as { code: string }).code, 'STORE_UNAVAILABLE')
    }),
  )
})

test('postgres: a wrong password is told without it', async () => {
  const url = new URL(inject('postgresUrl'))
  url.username = 'nobody'
  url.password = SECRET
  const outcome = await run(['stats', '--url', url.toString()])
  assert.equal(outcome.code, 1)
  assertClean(outcome)
})
