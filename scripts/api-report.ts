import { mkdirSync } from 'node:fs'
import { extract, root } from './extractor.ts'

/*
 * Compares the public declarations in `dist/` with the reports in `api/`, so that a change of the API is seen in review.
 * `npm run api` writes them anew.
 */
const accept = process.argv.includes('--accept')

function report(entry: string): boolean {
  mkdirSync(`${root}api`, { recursive: true })
  const apiReport = {
    enabled: true,
    includeForgottenExports: true,
    reportFileName: `${entry}.api.md`,
    reportFolder: `${root}api/`,
    reportTempFolder: `${root}.tmp/api/`,
  }
  const result = extract(entry, { apiReport, docModel: { enabled: false } }, accept)
  if (result.apiReportChanged && !accept)
    console.error(
      `The API is not that of api/${entry}.api.md. If that is meant, run \`npm run api\` and commit it.`,
    )
  return result.errorCount === 0 && (accept || !result.apiReportChanged)
}

const unchanged = ['index', 'backend', 'testing'].map(report)
process.exitCode = unchanged.every(Boolean) ? 0 : 1
