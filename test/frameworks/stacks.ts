/** A framework, with what has to be known to run its example. */
export interface Stack {
  /** The folder under `examples/frameworks/`. */
  readonly name: string
  /** What the table calls it; the packages whose versions it names. */
  readonly title: string
  readonly packages: readonly string[]
  /** Default `/mcp`. */
  readonly path?: string
  /** Run once, in the folder of the copy: what follows `node`. */
  readonly build?: readonly string[]
  /** What follows `node` there, with `PORT` in it. Default: its `server.ts`. */
  readonly start?: readonly string[]
  readonly ready?: RegExp
  /** Needs nothing but what this repository has installed: run by `npm test` too. */
  readonly cheap?: true
  /** Steps that do not pass, and why; the framework without us does the same. */
  readonly lacks?: Partial<Record<Step, string>>
}

export const STEPS = [
  'connect',
  'list',
  'calls',
  'counter',
  'ask',
  'progress',
  'killed',
  'goes on',
  'ask again',
  'delete',
] as const
export type Step = (typeof STEPS)[number]

const SDK = '@modelcontextprotocol/sdk'
const SERVER = '@modelcontextprotocol/server'

/** What needs a session. */
function stateless(why: string): NonNullable<Stack['lacks']> {
  const steps = ['connect', 'counter', 'ask', 'killed', 'goes on', 'ask again', 'delete'] as const
  return Object.fromEntries(steps.map((step) => [step, why]))
}

export const STACKS: readonly Stack[] = [
  { name: 'express', title: 'Express', packages: ['express', SDK], cheap: true },
  { name: 'fastify', title: 'Fastify', packages: ['fastify', SDK], cheap: true },
  { name: 'koa', title: 'Koa', packages: ['koa', SDK], cheap: true },
  { name: 'hono', title: 'Hono', packages: ['hono', SDK], cheap: true },
  {
    name: 'sdk-v2-express',
    title: 'SDK v2 with Express',
    packages: ['@modelcontextprotocol/express', SERVER],
    cheap: true,
  },
  {
    name: 'sdk-v2-fastify',
    title: 'SDK v2 with Fastify',
    packages: ['@modelcontextprotocol/fastify', SERVER],
    cheap: true,
  },
  {
    name: 'sdk-v2-hono',
    title: 'SDK v2 with Hono',
    packages: ['@modelcontextprotocol/hono', SERVER],
    cheap: true,
  },
  {
    name: 'sdk-v2-node',
    title: 'SDK v2 with node:http',
    packages: ['@modelcontextprotocol/node', SERVER],
    cheap: true,
  },
  {
    name: 'nest-express',
    title: 'NestJS on Express',
    packages: ['@rekog/mcp-nest', '@nestjs/core'],
  },
  {
    name: 'nest-fastify',
    title: 'NestJS on Fastify',
    packages: ['@rekog/mcp-nest', '@nestjs/core'],
  },
  {
    name: 'next',
    title: 'Next.js route',
    packages: ['next', SDK],
    build: ['node_modules/next/dist/bin/next', 'build'],
    start: ['node_modules/next/dist/bin/next', 'start', '-p', 'PORT'],
    ready: /Ready in/,
  },
  {
    name: 'nitro',
    title: 'Nitro',
    packages: ['nitropack', 'h3', SDK],
    build: ['node_modules/nitropack/dist/cli/index.mjs', 'build'],
    start: ['.output/server/index.mjs'],
    ready: /Listening on/,
  },
  { name: 'h3', title: 'h3', packages: ['h3', SDK] },
  { name: 'elysia', title: 'Elysia', packages: ['elysia', '@elysiajs/node', SDK] },
  { name: 'tmcp', title: 'tmcp', packages: ['tmcp', '@tmcp/transport-http'] },
  { name: 'fastmcp', title: 'fastmcp', packages: ['fastmcp'] },
  { name: 'mcp-use', title: 'mcp-use', packages: ['mcp-use'] },
  {
    name: 'mastra',
    title: 'Mastra',
    packages: ['@mastra/mcp', '@mastra/core'],
    lacks: { killed: 'its tools cannot say readOnlyHint: the call is answered as interrupted' },
  },
  {
    name: 'supergateway',
    title: '`serve` with supergateway',
    packages: ['supergateway', SDK],
    // As its script "start" has it.
    start: [
      'node_modules/mcp-persist/dist/cli/main.js',
      'serve',
      '--port',
      'PORT',
      '--',
      process.execPath,
      'node_modules/supergateway/dist/index.js',
      '--stdio',
      `${process.execPath} --import tsx server.ts`,
      '--outputTransport',
      'streamableHttp',
      '--stateful',
      '--port',
      '{port}',
    ],
    ready: /serves http/,
  },
  {
    name: 'mcp-handler',
    title: 'mcp-handler',
    packages: ['mcp-handler', SERVER],
    lacks: stateless('it opens no sessions, by design: there is nothing to persist'),
  },
]
