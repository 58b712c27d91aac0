/** What a world is made of: bundled as one text, in which a mutant changes a line. */
export { errorText, isPersistError, PersistError } from '../../src/errors.ts'
export { resolveOptions } from '../../src/options.ts'
export { Engine } from '../../src/session/engine.ts'
export { GroupCommit } from '../../src/store/common/group-commit.ts'
export { MemoryEventStore } from '../../src/store/memory/memory-store.ts'
