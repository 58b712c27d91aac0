// Nothing in it is for mcp-persist: `output` is how Next is put into a container, and the roots are said because this folder
// lies in another package.
const here = import.meta.dirname ?? new URL('.', import.meta.url).pathname

export default { output: 'standalone', outputFileTracingRoot: here, turbopack: { root: here } }
