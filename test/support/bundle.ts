import { createRequire } from 'node:module'
import { compileFunction } from 'node:vm'
import { type BuildOptions, build } from 'esbuild'

/** The sources behind `entry` as one text that `evaluate` can run, for a test that wants them changed. */
export async function bundle(entry: string, options: BuildOptions): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: 'cjs',
    platform: 'node',
    logLevel: 'silent',
    target: 'node20',
    ...options,
  })
  return outputFiles![0]!.text
}

export interface Inside {
  /** What stands for globals. */
  readonly globals?: Readonly<Record<string, unknown>>
  readonly require?: NodeJS.Require | ((name: string) => unknown)
  readonly filename?: string
}

/** What the text of a bundle exports. */
export function evaluate(
  text: string,
  { globals = {}, require = createRequire(import.meta.url), filename }: Inside = {},
): unknown {
  const names = ['module', 'exports', 'require', ...Object.keys(globals)]
  const run = compileFunction(text, names, filename === undefined ? {} : { filename })
  const module = { exports: {} }
  run(module, module.exports, require, ...Object.values(globals))
  return module.exports
}
