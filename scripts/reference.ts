import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import {
  ApiDeclaredItem,
  ApiDocumentedItem,
  type ApiItem,
  ApiItemContainerMixin,
  ApiModel,
  ApiNameMixin,
} from '@microsoft/api-extractor-model'
import { extract, root } from './extractor.ts'

/*
 * Writes `docs/reference/` from the declarations in `dist/` and their comments: a page for each entry of the package, with
 * an anchor for each export and each member.
 */
const ENTRIES = { index: 'mcp-persist', backend: 'mcp-persist/backend', testing: 'mcp-persist/testing' }

function model(entry: string): ApiItem {
  const file = `${root}.tmp/reference/${entry}.api.json`
  const wanted = { apiReport: { enabled: false }, docModel: { enabled: true, apiJsonFilePath: file } }
  if (!extract(entry, wanted, true).succeeded) throw new Error(`The declarations of ${entry} cannot be read.`)
  return new ApiModel().loadPackage(file).entryPoints[0]!
}

/** The comment of an item as Markdown. */
function comment(item: ApiItem): string {
  if (!(item instanceof ApiDocumentedItem) || !item.tsdocComment) return ''
  return item.tsdocComment
    .emitAsTsdoc()
    .trim()
    .replace(/^\/\*\*|\*\/$/g, '')
    .replace(/^ ?\* ?/gm, '')
    .replace(/^@example\s*/gm, 'For example:\n\n')
    .replace(/^@throws\s*/gm, 'Throws ')
    .replace(/^@(?:public|internal|remarks)\s*/gm, '')
    .replace(/^@param (\w+) - /gm, '- `$1`: ')
    .replace(/\{@link (\w+)\}/g, '`$1`')
    .trim()
}

function section(item: ApiItem, level: number, owner = ''): string {
  const name = owner + (ApiNameMixin.isBaseClassOf(item) ? item.name : item.displayName)
  const parts = [`${'#'.repeat(level)} ${name.replace(/[<>[\]]/g, '\\$&')}`]
  if (item instanceof ApiDeclaredItem) parts.push(`\`\`\`ts\n${item.excerpt.text.trim()}\n\`\`\``)
  parts.push(comment(item))
  if (level === 2 && ApiItemContainerMixin.isBaseClassOf(item))
    for (const member of item.members) parts.push(section(member, 3, `${name}.`))
  return parts.filter((part) => part !== '').join('\n\n')
}

const folder = `${root}docs/reference`
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })
for (const [entry, title] of Object.entries(ENTRIES)) {
  const exported = model(entry).members.filter((each) => !('isExported' in each) || each.isExported)
  const sections = exported.map((each) => section(each, 2))
  writeFileSync(`${folder}/${entry}.md`, `# API of ${title}\n\n${sections.join('\n\n')}\n`)
}
