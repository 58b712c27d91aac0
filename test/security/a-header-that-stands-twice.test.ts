import { expect, it } from 'vitest'
import { guardedFrameworks } from '../support/apps/guarded.ts'
import { askRaw } from '../support/clients/wire.ts'
import { house, unwrappedHouse } from './support.ts'

const users = { 'alice-1': 'alice', 'bob-1': 'bob' }
const CREDENTIALS = [
  ['bob-1', 'alice-1'],
  ['alice-1', 'bob-1'],
  ['alice-1', 'alice-1'],
  ['mallory', 'alice-1'],
]
const TYPES = [
  ['application/json', 'text/plain'],
  ['text/plain', 'application/json'],
]

const call = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: { name: 'counter', arguments: {} },
})

/** Node keeps the first of two lines, a web app sees both, and an app in another language does as it likes. */
it.each(guardedFrameworks)(
  'a %s app that refuses two credentials, or two types, refuses them wrapped, at the owner and elsewhere',
  async (framework) => {
    const home = house(framework, { users, stranger: 403 })
    const bare = await unwrappedHouse(framework, { users, stranger: 403 })
    const owner = await home.node()
    const nodes = [owner, await home.node()]
    const alice = await home.open(owner, 'alice-1')
    const twin = await bare.open('alice-1')
    const ask = async (url: string, session: string, credentials: string[], types: string[]) => {
      const head = [
        'POST /mcp HTTP/1.1',
        'Host: localhost',
        ...credentials.map((token) => `Authorization: Bearer ${token}`),
        ...types.map((type) => `Content-Type: ${type}`),
        'Accept: application/json, text/event-stream',
        `Mcp-Session-Id: ${session}`,
      ]
      return (await askRaw(new URL(url).origin, head, call)).status
    }
    const asked = [
      ...CREDENTIALS.map((each) => [each, ['application/json']] as const),
      ...TYPES.map((each) => [['alice-1'], each] as const),
    ]
    for (const [credentials, types] of asked) {
      const expected = await ask(bare.url, twin.session!, [...credentials], [...types])
      for (const node of nodes) {
        const status = await ask(node.url, alice.session!, [...credentials], [...types])
        expect(status, `${credentials} ${types}`).toBe(expected)
      }
    }
  },
)
