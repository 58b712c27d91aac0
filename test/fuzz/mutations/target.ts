import type { Random } from '../../simulator/random.ts'
import type { Mutation, Plan } from '../plan.ts'

/** Another spelling of where the request goes, another host, another method. */
export function mutateTarget(plan: Plan, random: Random): void {
  const dice = random.next()
  if (dice < 0.2) method(plan, random)
  else if (dice < 0.35) host(plan, random)
  else spelling(plan, random)
}

function spelling(plan: Plan, random: Random): void {
  for (let left = random.between(1, 3); left > 0; left -= 1) random.pick(SPELLINGS)(plan, random)
  plan.story.push(`target ${plan.target.slice(0, 80)}`)
}

const METHODS = 'PUT PATCH HEAD OPTIONS TRACE PROPFIND QUERY SEARCH post CONNECT GET POST DELETE'.split(' ')

function method(plan: Plan, random: Random): void {
  plan.method = random.pick(METHODS)
  plan.story.push(`method ${plan.method}`)
}

const HOSTS = [
  '',
  'LOCALHOST',
  'localhost:80',
  'localhost:99999',
  'a@b',
  'localhost/admin?',
  'localhost#',
  '[::1]',
  '[::1',
  'localhost\\evil',
  'evil.example, localhost',
  '%6cocalhost',
  'xn--nxasmq6b',
  'é.example',
  'x'.repeat(300),
]

function host(plan: Plan, random: Random): void {
  const others = plan.headers.filter(([name]) => name !== 'Host')
  const value = random.pick(HOSTS)
  const dice = random.next()
  if (dice < 0.15) plan.headers = others
  else if (dice < 0.3) plan.headers.push(['Host', value])
  else plan.headers = [['Host', value], ...others]
  plan.story.push(`host ${dice < 0.15 ? 'absent' : value.slice(0, 40)}`)
}

/** A letter of the path, by its place. */
function letter(path: string, random: Random): number {
  const places = [...path].flatMap((each, i) => (/[a-z]/i.test(each) ? [i] : []))
  return places.length > 0 ? random.pick(places) : -1
}

const percent = (char: string) => `%${char.charCodeAt(0).toString(16).padStart(2, '0')}`

function atLetter(change: (char: string) => string): Mutation {
  return (plan, random) => {
    const { target } = plan
    const i = letter(target, random)
    if (i >= 0) plan.target = target.slice(0, i) + change(target[i]!) + target.slice(i + 1)
  }
}

const before =
  (prefix: string): Mutation =>
  (plan) => {
    plan.target = prefix + plan.target
  }
const behind =
  (suffix: string): Mutation =>
  (plan) => {
    plan.target += suffix
  }

const PREFIXES = [
  '/',
  '//',
  '/.',
  '/x/..',
  '/x/%2e%2e',
  '/.%2f',
  '\\',
  '/\\',
  '/%2f',
  '/%00',
  '/x',
  '/;a/..',
  '/%zz/..',
]
const SUFFIXES =
  '/ // /. /.. /x /mcp ; ;v=1 ;/ %00 %20 %09 %23 %3f ? ?x=1 ?/mcp # #x \\ %5c . é %c3%a9 %ff'.split(' ')
const ORIGINS = [
  'http://localhost',
  'HTTP://localhost',
  'http://evil.example',
  'https://localhost',
  'http://a@b',
  'http://',
  'http:',
  'ftp://localhost',
  'http://localhost:1',
]

const SPELLINGS: readonly Mutation[] = [
  atLetter((char) => char.toUpperCase()),
  atLetter((char) => char.toUpperCase()),
  atLetter(percent),
  atLetter(percent),
  atLetter((char) => percent(char).replace('%', '%25')),
  (plan) => {
    plan.target = plan.target.toUpperCase()
  },
  (plan) => {
    plan.target = plan.target.replace('/', '%2f')
  },
  (plan) => {
    plan.target = '/rpc'
  },
  (plan) => {
    plan.target = '/rpc'
  },
  (plan, random) => {
    plan.target = random.pick([
      '/',
      '*',
      'mcp',
      '',
      '/hello',
      '/mcp/../rpc',
      `/${'x'.repeat(3000)}`,
      'localhost:80',
    ])
  },
  (plan, random) => before(random.pick(PREFIXES))(plan, random),
  (plan, random) => before(random.pick(PREFIXES))(plan, random),
  (plan, random) => behind(random.pick(SUFFIXES))(plan, random),
  (plan, random) => behind(random.pick(SUFFIXES))(plan, random),
  (plan, random) => before(random.pick(ORIGINS))(plan, random),
]
