import { describe, expect, it } from 'vitest'
import { jwt } from '../support/apps/guarded.ts'
import { guardedFronts, house, statusOf } from './support.ts'

const [old, fresh] = [1, 2].map((n) => jwt({ iss: 'https://issuer.example', sub: 'alice', n }))
const users = { [old!]: 'alice', [fresh!]: 'alice', 'alice-1': 'alice', 'alice-2': 'alice' }
const userOf = { 'Bearer alice-1': 'alice', 'Bearer alice-2': 'alice' } as Record<string, string>

describe.each(guardedFronts)('a %s app has swept a session whose last token has run out', (framework) => {
  it('is asked by its user, verified in front of us, who has another token', async () => {
    const home = house(
      framework,
      { users },
      {
        principal: ({ headers }) => userOf[headers.get('authorization') ?? ''] ?? null,
      },
    )
    const node = await home.node()
    const alice = await home.open(node, 'alice-1')
    home.users.delete('alice-1')
    node.sweep()
    expect(await statusOf(alice.post(alice.request('tools/list'))), 'the old one').toBe(401)
    expect(await home.as(alice, 'alice-2', node).tool('counter')).toBe('1')
  })

  it('says what it says, where only an unverified token names its user, and the log says so', async () => {
    const home = house(framework, { users })
    const node = await home.node()
    const alice = await home.open(node, old!)
    home.users.delete(old!)
    node.sweep()
    const refreshed = home.as(alice, fresh, node)
    const response = await refreshed.post(refreshed.request('tools/list'))
    expect([response.status, await response.text()]).toEqual([
      404,
      expect.stringContaining('The app says 404'),
    ])
    const said = node.log.lines.filter(({ message }) =>
      message.includes('does not accept its last caller any more'),
    )
    expect(said.map(({ level, facts }) => [level, facts['sessionId']])).toEqual([['warn', alice.session]])
  })

  it('nothing is lost where the session is there: the new token is as good as the old one', async () => {
    const home = house(framework, { users })
    const node = await home.node()
    const alice = await home.open(node, old!)
    expect(await alice.tool('counter')).toBe('1')
    home.users.delete(old!)
    expect(await home.as(alice, fresh, node).tool('counter')).toBe('2')
  })
})
