import { fileURLToPath } from 'node:url'
import {
  Extractor,
  ExtractorConfig,
  type ExtractorMessage,
  type ExtractorResult,
  type IConfigFile,
} from '@microsoft/api-extractor'

export const root = fileURLToPath(new URL('../', import.meta.url))

/** Reads the public declarations of an entry in `dist/`. `accept`: what stands in the repository is written anew. */
export function extract(
  entry: string,
  wanted: Pick<IConfigFile, 'apiReport' | 'docModel'>,
  accept: boolean,
): ExtractorResult {
  const none = { logLevel: 'none' } as const
  const config = ExtractorConfig.prepare({
    configObjectFullPath: undefined,
    packageJsonFullPath: `${root}package.json`,
    configObject: {
      projectFolder: root,
      newlineKind: 'lf',
      mainEntryPointFilePath: `${root}dist/${entry}.d.ts`,
      compiler: { tsconfigFilePath: `${root}tsconfig.build.json` },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      messages: {
        compilerMessageReporting: { default: { logLevel: 'error' } },
        // How comments are written is for people to judge.
        extractorMessageReporting: { default: none },
        tsdocMessageReporting: { default: none },
      },
      ...wanted,
    },
  } as Parameters<typeof ExtractorConfig.prepare>[0])
  return Extractor.invoke(config, { localBuild: accept, messageCallback: quieten })
}

function quieten(message: ExtractorMessage): void {
  if (message.messageId.startsWith('console-') && message.logLevel !== 'error') message.handled = true
}
