import { createServer } from 'node:http'
import express from 'express'
import { describe, expect, it, onTestFinished } from 'vitest'
import { portableAuthInfo } from '../../src/app/auth-info.ts'
import { MemoryEventStore, type PersistOptions, type PrincipalRequest } from '../../src/index.ts'
import { resolveOptions } from '../../src/options.ts'
import { subjectOf } from '../../src/session/protocol/bearer-token.ts'
import { credentialOf } from '../../src/session/protocol/credential.ts'
import { bestPrincipal, principalsOf } from '../../src/session/protocol/principal.ts'
import { appShape } from '../support/apps/app-shapes.ts'
import { guardedApp, jwt } from '../support/apps/guarded.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { memoryJournal } from '../support/journal.ts'
import { listen } from '../support/net/listen.ts'
import { house, serveApp, statusOf } from './support.ts'

const bearer = (token: string) => `Bearer ${token}`

describe('a bearer token', () => {
  it('names its subject, and its issuer where it has one', () => {
    expect(subjectOf(bearer(jwt({ iss: 'i', sub: 's', exp: 1 })))).toBe('["i","s"]')
    expect(subjectOf(bearer(jwt({ sub: 's' })))).toBe('[null,"s"]')
    expect(subjectOf(`dpop ${jwt({ iss: 'i', sub: 'ž' })}`)).toBe('["i","ž"]')
    expect(subjectOf(bearer(jwt({ iss: 'i', sub: 's', exp: 2 })))).toBe(
      subjectOf(bearer(jwt({ sub: 's', iss: 'i' }))),
    )
  })

  const part = (text: string) => Buffer.from(text).toString('base64url')
  it.each([
    undefined,
    '',
    'Bearer',
    'Bearer opaque',
    'Bearer a.b.c',
    'Bearer ..',
    `Basic ${jwt({ sub: 's' })}`,
    bearer(jwt({})),
    bearer(jwt({ sub: '' })),
    bearer(jwt({ sub: 7 })),
    bearer(jwt({ sub: { toString: 'x' } })),
    bearer(jwt([])),
    `Bearer e.${part('null')}.s`,
    `Bearer e.${part('"text"')}.s`,
    `Bearer e.${part('{"sub":"s"')}.s`,
    `Bearer e.${part('['.repeat(10_000))}.s`,
    bearer(jwt({ sub: 's', pad: 'x'.repeat(20_000) })),
    `Bearer ${jwt({ sub: 's' })}, Bearer ${jwt({ sub: 't' })}`,
  ])('%.60s names nobody, and nothing is thrown', (authorization) => {
    expect(subjectOf(authorization)).toBe(null)
  })

  it('is remembered, and no more than some hundreds are', () => {
    for (let n = 0; n < 3000; n += 1) expect(subjectOf(bearer(jwt({ sub: `s${n}` })))).toBe(`[null,"s${n}"]`)
  })
})

describe('a credential', () => {
  const of = (headers: Record<string, string>, url = '/mcp') => credentialOf({ method: 'POST', url, headers })

  it.each([
    'authorization',
    'x-api-key',
    'api-key',
    'x-auth-token',
    'x-access-token',
    'x-auth',
    'ocp-apim-subscription-key',
    'x-client-secret',
  ])('is what the header %s holds', (name) => {
    expect(of({ [name]: 'hers', cookie: 'a=1' })).toBe(of({ [name]: 'hers', cookie: 'a=2' }))
    expect(of({ [name]: 'hers' })).not.toBe(of({ [name]: 'his' }))
    expect(of({ [name]: 'hers', 'gateway-token': 'all' })).not.toBe(of({ 'gateway-token': 'all' }))
  })

  it.each(['key', 'api_key', 'apiKey', 'tavilyApiKey', 'access_token'])(
    'is what the query has as %s',
    (name) => {
      expect(of({}, `/mcp?${name}=hers`)).toBe(of({}, `/mcp?page=2&${name}=hers`))
      expect(of({}, `/mcp?${name}=hers`)).not.toBe(of({}, `/mcp?${name}=his`))
    },
  )

  it('is nothing that changes with each request', () => {
    for (const name of [
      'x-csrf-token',
      'x-xsrf-token',
      'idempotency-key',
      'x-request-id',
      'mcp-session-id',
      'traceparent',
    ])
      expect(of({ [name]: 'x' })).toBeUndefined()
    expect(of({}, '/mcp?page=2')).toBeUndefined()
  })
})

describe('who it is', () => {
  const settings = (options: PersistOptions = {}) => resolveOptions(options)
  const request = (headers: Record<string, string>, authInfo?: unknown) => ({
    method: 'POST',
    url: '/mcp',
    headers,
    authInfo,
  })
  const authInfo = { clientId: 'c', extra: { iss: 'i', sub: 's' } }
  const token = { authorization: bearer(jwt({ iss: 'i', sub: 'other' })) }

  it('the option before AuthInfo in front of us, before that of the app, before a token', async () => {
    const option = settings({ principal: () => 'p' })
    expect(bestPrincipal(await principalsOf(request(token, authInfo), option), authInfo)?.source).toBe(
      'option',
    )
    expect(bestPrincipal(await principalsOf(request(token, authInfo), settings()), authInfo)?.source).toBe(
      'authInfo',
    )
    expect(bestPrincipal(await principalsOf(request(token), settings()), authInfo)?.source).toBe('app')
    expect(bestPrincipal(await principalsOf(request(token), settings()), undefined)?.source).toBe('jwt')
    expect(bestPrincipal(await principalsOf(request({}), settings()), undefined)).toBeUndefined()
    expect(
      bestPrincipal(await principalsOf(request(token), settings({ principal: () => null })), authInfo),
    ).toBeUndefined()
  })

  it('a token that names a user, before an AuthInfo that only names the client program', async () => {
    const client = { clientId: 'one-for-all', token: 'x' }
    expect(bestPrincipal(await principalsOf(request(token, client), settings()), undefined)?.source).toBe(
      'jwt',
    )
    expect(bestPrincipal(await principalsOf(request({}, client), settings()), undefined)?.source).toBe(
      'authInfo',
    )
  })

  it('reads headers of every name', async () => {
    const names = [
      'get',
      'has',
      'set',
      'forEach',
      'foreach',
      '__proto__',
      'constructor',
      'tostring',
      'entries',
      'x-user',
    ]
    const headers = Object.defineProperties(
      {} as Record<string, string>,
      Object.fromEntries(names.map((name) => [name, { value: `value of ${name}`, enumerable: true }])),
    )
    let seen: PrincipalRequest | undefined
    const principal = (given: PrincipalRequest) => {
      seen = given
      return null
    }
    await principalsOf(request(headers), settings({ principal }))
    for (const name of names) expect(seen?.headers.get(name)).toContain('value of')
    expect(seen?.headers['x-user']).toBe('value of x-user')
    expect(seen?.headers.has('get')).toBe(true)
    expect(Object.getPrototypeOf(seen?.headers)).toBe(Headers.prototype)
  })
})

describe('the option principal', () => {
  const returned = [undefined, 7, {}]
  const cases = (['express', 'url'] as const).flatMap((front) =>
    returned.map((each) => [front, each] as const),
  )
  it.each(cases)('by %s: that returns %j is a mistake, and not nobody', async (front, returned) => {
    const principal = (() => returned) as unknown as () => null
    const { url, log } = await house(front, { users: {} }, { principal }).node()
    const client = new RawClient(url)
    const response = await client.post(client.initialize())
    expect([response.status, await response.text()]).toEqual([
      500,
      expect.stringContaining('Internal server error'),
    ])
    const said = log.lines.filter(({ level }) => level === 'error')
    expect(said.map(({ facts }) => facts['error'])).toEqual([
      `The option "principal" returned ${typeof returned}; let it return a string, or null for nobody.`,
    ])
  })
})

describe('a record of a release that did not say where a principal came from', () => {
  it.each([
    ['the option', { principal: ({ headers }: PrincipalRequest) => headers.get('x-user') }, 'alice'],
    ['AuthInfo in front of us', {}, JSON.stringify([null, 'client', 'alice'])],
  ])('is its principal’s, as that release had it from %s', async (_name, options, principal) => {
    const store = new MemoryEventStore()
    onTestFinished(() => store.close())
    const { app } = await appShape('factory').build({ journal: memoryJournal() })
    const params = {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'c', version: '1' },
    }
    const initialize = JSON.stringify({ jsonrpc: '2.0', id: 0, method: 'initialize', params })
    const state = { initialize, protocolVersion: '2025-11-25' }
    await store.sessions.create({ id: 'old', principal, state, owner: 'gone', ttl: 60_000 })
    const { handler } = await serveApp(app as never, store, options)
    const front = express()
    front.use((req, _res, next) => {
      const user = req.headers['x-user']
      if (_name !== 'the option') Object.assign(req, { auth: { clientId: 'client', extra: { sub: user } } })
      next()
    })
    front.all('/mcp', handler)
    const { origin, close } = await listen(front)
    onTestFinished(close)
    const client = new RawClient(`${origin}/mcp`, { 'x-user': 'bob' })
    client.session = 'old'
    expect(await statusOf(client.post(client.request('tools/list')))).toBe(404)
    client.headers['x-user'] = 'alice'
    expect(await client.tool('counter')).toBe('1')
    client.headers['x-user'] = 'bob'
    expect(await statusOf(client.post(client.request('tools/list')))).toBe(404)
  })
})

describe('authInfo', () => {
  it('is plain JSON with a URL for its resource, whatever it was', () => {
    const circle: Record<string, unknown> = { clientId: 'c', when: new Date(0), big: 1n, run: () => 1 }
    circle['self'] = circle
    circle['resource'] = new URL('https://mcp.example/mcp')
    expect(portableAuthInfo(circle)).toEqual({
      clientId: 'c',
      when: new Date(0).toISOString(),
      resource: new URL('https://mcp.example/mcp'),
    })
    expect(portableAuthInfo(undefined)).toBeUndefined()
    expect(portableAuthInfo({ resource: 'no URL' })).toEqual({ resource: 'no URL' })
  })

  it('is the same at every node', async () => {
    const store = new MemoryEventStore()
    onTestFinished(() => store.close())
    const seen: unknown[] = []
    const journal = memoryJournal()
    const node = async () => {
      const users = new Map([['alice-1', 'alice']])
      const { app } = guardedApp('express', { journal, users })
      const looking = express()
      looking.use((req, _res, next) => {
        seen.push((req as { auth?: unknown }).auth)
        next()
      })
      looking.use(app as never)
      const { handler } = await serveApp(looking as never, store)
      const front = express()
      front.use((req, _res, next) => {
        const extra = { sub: 'alice', since: new Date(0), run: () => 1 }
        const resource = new URL('https://mcp.example/mcp')
        next(void Object.assign(req, { auth: { token: 't', clientId: 'c', scopes: [], resource, extra } }))
      })
      front.all('/mcp', handler)
      const { origin, close } = await listen(createServer(front) && front)
      onTestFinished(close)
      return `${origin}/mcp`
    }
    const client = await RawClient.open(await node(), { headers: { authorization: bearer('alice-1') } })
    expect(await client.tool('counter')).toBe('1')
    const [before] = seen
    seen.length = 0
    const other = client.clone(await node())
    other.headers = { ...client.headers }
    expect(await other.tool('counter')).toBe('2')
    const extra = { sub: 'alice', since: new Date(0).toISOString() }
    const resource = new URL('https://mcp.example/mcp')
    expect(before).toEqual({ token: 't', clientId: 'c', scopes: [], resource, extra })
    for (const each of seen) expect(each).toEqual(before)
    expect(seen.length).toBeGreaterThan(0)
  })
})

describe('the option authorise', () => {
  it.each(['express', 'url'])(
    'by %s: is asked in place of the app for what is good for one request, and its refusal is the answer',
    async (front) => {
      const users = new Map([['alice-1', 'alice']])
      const journal = memoryJournal()
      const { app } = guardedApp('express', { journal, users })
      const bound = express()
      // A proof that is made for one method: a ping with the proof of a GET is refused.
      bound.use((req, res, next) => {
        if (req.headers['x-proof'] === req.method) return next()
        res.status(401).json({ error: 'proof' })
      })
      bound.use(app as never)
      const upstream = front === 'url' ? await listen(bound) : undefined
      if (upstream) onTestFinished(upstream.close)
      const { url } = await serveApp(upstream ? { url: upstream.origin } : (bound as never), 'memory:', {
        authorise: ({ method, headers }) => {
          if (headers.get('x-proof') === 'nobody') return false
          return (
            headers.get('x-proof') === method || {
              status: 401,
              headers: { 'www-authenticate': 'DPoP' },
              body: 'no',
            }
          )
        },
      })
      const client = await RawClient.open(url, {
        headers: { authorization: bearer('alice-1'), 'x-proof': 'POST' },
      })
      onTestFinished(() => client.close())
      const refused = await client.get()
      expect([refused.status, await refused.text()]).toEqual([401, 'no'])
      expect(refused.headers.get('www-authenticate')).toBe('DPoP')
      expect(await statusOf(client.get({ 'x-proof': 'nobody' }))).toBe(403)
      const stream = await client.listen(undefined, { 'x-proof': 'GET' })
      expect(stream.state).toBe('open')
      expect(await client.tool('counter')).toBe('1')
    },
  )

  it.each([undefined, null, 'yes', 0, {}, { status: 'no' }, { status: 99 }, { status: 401, body: {} }])(
    'that returns %j is a mistake, and no answer',
    async (returned) => {
      const authorise = (() => returned) as unknown as () => boolean
      const { app } = await appShape('factory').build({ journal: memoryJournal() })
      const { url, log } = await serveApp(app as never, 'memory:', { authorise })
      const client = await RawClient.open(url)
      onTestFinished(() => client.close())
      const response = await client.get()
      expect([response.status, await response.text()]).toEqual([
        500,
        expect.stringContaining('Internal server error'),
      ])
      expect(log.lines.map(({ facts }) => facts['error'])).toContain(
        'The option "authorise" returned something else; let it return true, false, or { status, headers?, body? }.',
      )
    },
  )
})
