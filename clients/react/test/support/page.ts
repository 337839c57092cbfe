import { builtinEnvironments, type Environment } from "vitest/runtime";

/** jsdom, with modules as Node takes them: Vite would take the files that tests read for assets of a page. */
const page: Environment = { ...builtinEnvironments.jsdom, name: "page", viteEnvironment: "ssr" };
export default page;
