import { describe, expect, test } from 'vitest'
import { normalPath, shapeOf } from '../../src/http/request-shape.ts'

describe('every way to write the path of the endpoint is the endpoint', () => {
  test.each([
    '/mcp',
    '/mcp/',
    '/mcp//',
    '/mcp?x=1',
    '/mcp?/../y',
    '/mcp#x',
    '/MCP',
    '/Mcp/',
    '/%6dcp',
    '/m%63p',
    '/%6D%63%70',
    '/%4dCP',
    '/%256dcp',
    '/%25256dcp',
    '/mcp%2f',
    '/%2fmcp',
    '/mcp%3fx=1',
    '/mcp%23x',
    '/./mcp',
    '/mcp/.',
    '/x/../mcp',
    '/mcp/x/..',
    '/x//../mcp',
    '/%2e/mcp',
    '/x/%2e%2e/mcp',
    '/../mcp',
    '/.\\mcp',
    '/x\\..\\mcp',
    '/x/..%5cmcp',
    '/mcp;v=1',
    '/mcp;v=1/',
    '/;x/mcp',
    '/m%00cp',
    '/mcp%20',
    '/mcp%09',
  ])('%s', (target) => expect(normalPath(target)).toBe('/mcp'))
})

describe('and nothing else is', () => {
  test.each([
    ['/', '/'],
    ['/mcpx', '/mcpx'],
    ['/mcp/x', '/mcp/x'],
    ['/x/mcp', '/x/mcp'],
    ['/mcp/..', '/'],
    ['/%zzmcp', '/%zzmcp'],
    ['/%', '/%'],
    ['/m%c3%28cp', '/mã(cp'],
    ['/m%E0%A4cp', '/mà¤cp'],
    ['/m-c_p', '/m-c_p'],
  ])('%s', (target, path) => expect(normalPath(target)).toBe(path))
})

test('a path of many escapes takes no time', () => {
  const started = performance.now()
  normalPath(`/${'%25'.repeat(5000)}6dcp${'/..'.repeat(5000)}`)
  expect(performance.now() - started).toBeLessThan(200)
})

describe('the url that the app gets', () => {
  test.each([
    ['/mcp?a=1', '/mcp?a=1'],
    ['/MCP/?a=1', '/MCP/?a=1'],
    ['/%6dcp', '/%6dcp'],
    ['http://localhost/mcp?a=1', '/mcp?a=1'],
    ['HTTP://localhost:3000/mcp', '/mcp'],
    ['https://other.example/mcp', '/mcp'],
    ['http://localhost', '/'],
    ['http://localhost?a=1', '/?a=1'],
  ])('%s', (target, url) => expect(shapeOf(target, 'localhost')).toMatchObject({ url }))
})

describe('a target that leads elsewhere or nowhere has no shape', () => {
  test.each([
    '',
    '*',
    'mcp',
    '//evil.example/mcp',
    '/\\evil.example/mcp',
    '\\mcp',
    '@evil.example/mcp',
    'http:/mcp',
    'http:mcp',
    'http:///mcp',
    'http://user@host/mcp',
    'http://host//evil.example/mcp',
    'http://a b/mcp',
    'http://host:99999/mcp',
    'http://host\\mcp',
    'ftp://host/mcp',
    'localhost:443',
  ])('%s', (target) => expect(shapeOf(target, 'localhost')).toHaveProperty('malformed'))
})

describe('hosts', () => {
  test.each([
    undefined,
    '',
    'localhost',
    'localhost:3000',
    '127.0.0.1:1',
    '[::1]:3000',
    'my_host.example',
    'a-b.c',
  ])('%s is one', (host) => expect(shapeOf('/mcp', host)).toHaveProperty('url'))
  test.each([
    'localhost/admin?',
    'localhost/admin#',
    'a@b',
    'a:b@c',
    'a b',
    'localhost:99999',
    'localhost:x',
    '[::1',
    'a:b:c',
    'a\\b',
    'a?b',
    'a#b',
    'a,b',
    'localhost, localhost',
    '%6cocalhost',
    'é',
  ])('%s is none', (host) => expect(shapeOf('/mcp', host)).toHaveProperty('malformed'))
})
