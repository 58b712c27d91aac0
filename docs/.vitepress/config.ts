import { existsSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitepress'

const docs = fileURLToPath(new URL('../', import.meta.url))
const root = dirname(docs)
const SOURCE = 'https://github.com/mcp-persist/mcp-persist/blob/main/'

export default defineConfig({
  title: 'mcp-persist',
  description: 'Sessions of MCP servers that survive restarts, deploys and load balancers',
  cleanUrls: true,
  head: [['link', { rel: 'icon', href: 'data:,' }]],
  markdown: {
    config: (md) => md.core.ruler.push('source-links', ({ tokens, env }) => link(tokens, env.path)),
  },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    socialLinks: [{ icon: 'github', link: 'https://github.com/mcp-persist/mcp-persist' }],
    editLink: { pattern: `${SOURCE}docs/:path`.replace('/blob/', '/edit/') },
    nav: [
      { text: 'Quick start', link: '/quick-start' },
      { text: 'What is promised', link: '/guarantees' },
      { text: 'Reference', link: '/reference/index' },
    ],
    sidebar: [
      group('Start', ['Quick start: quick-start', 'Questions: faq', 'What is promised: guarantees']),
      group('Build', [
        'Apps and mounting: apps',
        'Frameworks: frameworks',
        'A server as it is: cli#serve',
        'Stores: stores',
        'Auth: auth',
        'Tasks: tasks',
        'Both protocol eras: both-eras',
      ]),
      group('Coming from', [
        'Sticky sessions: guides/sticky',
        'The in-memory event store: guides/in-memory',
        'A Redis store of your own: guides/own-redis',
        'mcp-persist for Python: guides/python',
      ]),
      group('Operate', [
        'Checklist: production',
        'Deployment: deployment',
        'nginx: deployment#nginx',
        'Kubernetes: deployment#kubernetes',
        'ECS: deployment#ecs',
        'Serverless: deployment#serverless',
        'Scaling: scaling',
        'Security: security',
        'Upgrading: upgrading',
        'Troubleshooting: troubleshooting',
      ]),
      group('Reference', [
        'Options: options',
        'Errors: errors',
        'Command line: cli',
        'API: reference/index',
        'API for backends: reference/backend',
        'API for tests: reference/testing',
        'Versions: versions',
        'Benchmarks: benchmarks',
      ]),
      group('Inside', ['Design: design', 'Backends: backends', 'Vocabulary: vocabulary']),
    ],
  },
})

/** A page that is not there yet is left out. */
function group(text: string, pages: readonly string[]) {
  const items = pages.map((page) => {
    const [title, link] = page.split(': ') as [string, string]
    return { text: title, link: `/${link}` }
  })
  return { text, items: items.filter(({ link }) => existsSync(`${docs}${link.split('#')[0]}.md`)) }
}

interface Token {
  readonly children: Token[] | null
  attrGet(name: string): string | null
  attrSet(name: string, value: string): void
}

/** What a page links to outside of `docs/` is shown where the source is. */
function link(tokens: readonly Token[], page: string): void {
  for (const token of tokens.flatMap(({ children }) => children ?? [])) {
    const href = token.attrGet('href')
    if (!href || /^(?:[a-z]+:|[#/])/.test(href)) continue
    const target = relative(root, resolve(dirname(page), href))
    if (!target.startsWith('docs/')) token.attrSet('href', SOURCE + target)
  }
}
