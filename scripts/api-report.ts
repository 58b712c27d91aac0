import { mkdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Extractor, ExtractorConfig, type ExtractorMessage } from '@microsoft/api-extractor'

/*
 * Compares the public declarations in `dist/` with the reports in `api/`, so that a change of the API is seen in review.
 * `npm run api` writes them anew.
 */
const root = fileURLToPath(new URL('../', import.meta.url))
const accept = process.argv.includes('--accept')

function report(entry: string): boolean {
  mkdirSync(`${root}api`, { recursive: true })
  const none = { logLevel: 'none' } as const
  const config = ExtractorConfig.prepare({
    configObjectFullPath: undefined,
    packageJsonFullPath: `${root}package.json`,
    configObject: {
      projectFolder: root,
      newlineKind: 'lf',
      mainEntryPointFilePath: `${root}dist/${entry}.d.ts`,
      compiler: { tsconfigFilePath: `${root}tsconfig.build.json` },
      apiReport: {
        enabled: true,
        includeForgottenExports: true,
        reportFileName: `${entry}.api.md`,
        reportFolder: `${root}api/`,
        reportTempFolder: `${root}.tmp/api/`,
      },
      docModel: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      messages: {
        compilerMessageReporting: { default: { logLevel: 'error' } },
        // How comments are written is for people to judge.
        extractorMessageReporting: { default: none },
        tsdocMessageReporting: { default: none },
      },
    },
  } as Parameters<typeof ExtractorConfig.prepare>[0])
  const result = Extractor.invoke(config, { localBuild: accept, messageCallback: quieten })
  if (result.apiReportChanged && !accept)
    console.error(
      `The API is not that of api/${entry}.api.md. If that is meant, run \`npm run api\` and commit it.`,
    )
  return result.errorCount === 0 && (accept || !result.apiReportChanged)
}

function quieten(message: ExtractorMessage): void {
  if (message.messageId.startsWith('console-') && message.logLevel !== 'error') message.handled = true
}

const unchanged = ['index', 'backend', 'testing'].map(report)
process.exitCode = unchanged.every(Boolean) ? 0 : 1
