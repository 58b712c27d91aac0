import { describe, expect, test } from 'vitest'
import { Endpoints, plainName } from '../../src/http/endpoints.ts'
import { type RequestShape, shapeOf } from '../../src/http/request-shape.ts'
import { resolveOptions } from '../../src/options.ts'

const TENANTS = new Endpoints(['/:tenant/mcp', '/v1/:tenant/:app/MCP', '/mcp'])

function found(target: string, endpoints = TENANTS) {
  return endpoints.find(shapeOf(target, 'localhost') as RequestShape)
}

describe('a path with parameters is found, and is another endpoint for each of their values', () => {
  test.each([
    ['/acme/mcp', '/acme/mcp', '/acme/mcp'],
    ['/acme/mcp?x=/other/mcp', '/acme/mcp', '/acme/mcp'],
    ['/acme/mcp/', '/acme/mcp', '/acme/mcp'],
    ['/acme//mcp', '/acme/mcp', '/acme/mcp'],
    ['/acme/MCP', '/acme/mcp', '/acme/mcp'],
    ['/acme/%6dcp', '/acme/mcp', '/acme/mcp'],
    ['/acme/mcp;v=1', '/acme/mcp', '/acme/mcp'],
    ['/v1/acme/notes/mcp', '/v1/acme/notes/mcp', '/v1/acme/notes/MCP'],
    ['/mcp', '/mcp', '/mcp'],
    ['/MCP/', '/mcp', '/mcp'],
    ['/x/../mcp', '/mcp', '/mcp'],
  ])('%s', (target, name, path) => expect(found(target)).toEqual({ name, path }))
})

describe('two spellings that some app may tell apart are not the same endpoint', () => {
  const name = found('/acme/mcp')!.name
  test.each([
    '/Acme/mcp',
    '/ACME/mcp',
    '/%61cme/mcp',
    '/acme%20/mcp',
    '/acme;x/mcp',
    '/acme%3bx/mcp',
    '/acme%00/mcp',
    '/acme%2f/mcp',
    '/%2facme/mcp',
    '/.%2facme/mcp',
    '/x%2f..%2facme/mcp',
    '/acme%23/mcp',
    '/acme%3f/mcp',
    '/acme%252f/mcp',
    '/acme%5c/mcp',
    '/acme\\/mcp',
    '/acme/../other/mcp',
    '/other/%2e%2e/acme/mcp',
    '/./acme/mcp',
    '/acme/./mcp',
    '/other/../acme/mcp',
    '/acme/other/../mcp',
    '/acme%2fmcp',
    '/acme%2fmcp/x%2f..',
    '/x/..%2facme/mcp',
    '/other%2f..%2facme%2fmcp',
  ])('%s', (target) => expect(found(target)?.name).not.toBe(name))
})

describe('and nothing else is an endpoint', () => {
  test.each([
    '/',
    '/acme',
    '/acme/mcpx',
    '/acme/mcp/x',
    '/a/b/mcp',
    '/v1/acme/mcp',
    '/v1/acme/notes/x/mcp',
    '/acme/mcp/..',
    '/acme/%2e%2e/mcp/x',
    '/../mcp/x',
    '/%2f/mcp/x',
    '/:tenant',
  ])('%s', (target) => expect(found(target)).toBeUndefined())
})

test('a name never says less than the path: what is named alike is spelt alike, segment by segment', () => {
  const parts = [
    'acme',
    'Acme',
    '%61cme',
    'a%2fb',
    '..',
    '.',
    '%2e%2e',
    'x;y',
    'a%00',
    '\\',
    'mcp',
    'é',
    '%20',
  ]
  const names = new Map<string, string>()
  for (const one of parts)
    for (const two of parts)
      for (const last of ['mcp', 'mcp/', '/mcp', 'MCP', '%6dcp']) {
        const shape = shapeOf(`/${one}/${two}/${last}`, 'localhost')
        const endpoint =
          'path' in shape ? new Endpoints(['/:one/:two/mcp', '/:one/mcp']).find(shape) : undefined
        if (!endpoint) continue
        const plain = `${one}/${two}`
        expect(names.get(endpoint.name) ?? plain).toBe(plain)
        names.set(endpoint.name, plain)
      }
  expect(names.size).toBeGreaterThan(20)
})

test('the name of a mounted route is its path, without what says nothing', () => {
  expect(plainName('/Acme//mcp/?x=1')).toBe('/Acme/mcp')
})

test('a path of many segments takes no time', () => {
  const started = performance.now()
  found(`/${'%25'.repeat(5000)}${'/a'.repeat(5000)}/mcp`)
  expect(performance.now() - started).toBeLessThan(200)
})

describe('the option', () => {
  test.each([
    [undefined, ['/mcp']],
    ['/a', ['/a']],
    [
      ['/a', '/:b/c'],
      ['/a', '/:b/c'],
    ],
  ])('%j', (path, paths) => expect(resolveOptions(path === undefined ? {} : { path }).paths).toEqual(paths))
  test.each([['mcp'], [[]], [['/a', 'b']], ['/:'], ['/:tenant?/mcp'], ['/:a-b'], [5]])(
    '%j is refused with what it should be',
    (path) =>
      expect(() => resolveOptions({ path } as never)).toThrow(/"path" must be .* \/:tenant\/mcp; got/),
  )
})
