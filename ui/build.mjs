// SPDX-License-Identifier: Apache-2.0
// Bundles the pages: node build.mjs OUT_FOLDER. One script and one style sheet for each page, and what they are made of.
//
// A page is one file that opens from disk, where a worker has no address of its own to be fetched from: workers are
// built first, and stand as text in the page that starts them.
import { build } from "esbuild";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(here, "dist"));
const PAGES = { report: "src/report/main.tsx", compare: "src/compare/main.tsx" };

const common = {
  absWorkingDir: here,
  bundle: true,
  minify: true,
  target: ["es2022"],
  format: "iife",
  charset: "utf8",
  legalComments: "none", // LICENSES.txt has them whole
  metafile: true,
  write: false,
  logLevel: "warning",
};

const used = new Set();
/** Notes which packages a bundle holds. */
function note(metafile) {
  for (const input of Object.keys(metafile.inputs)) {
    const match = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (match) used.add(match[1]);
  }
}

/** `import text from "./x.worker.ts?text"`: the worker, bundled, as a string. */
const workers = {
  name: "workers",
  setup(plugins) {
    plugins.onResolve({ filter: /\?text$/ }, (args) => ({
      path: join(args.resolveDir, args.path.replace(/\?text$/, "")),
      namespace: "worker",
    }));
    plugins.onLoad({ filter: /.*/, namespace: "worker" }, async (args) => {
      const made = await build({ ...common, entryPoints: [args.path] });
      note(made.metafile);
      return { contents: made.outputFiles[0].text, loader: "text", watchFiles: [args.path] };
    });
  },
};

async function licences() {
  const parts = [];
  for (const name of [...used].sort()) {
    const folder = join(here, "node_modules", name);
    const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
    const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
    if (!file) throw new Error(`${name} has no licence file`);
    parts.push(`${name} ${version} (${license})\n\n${(await readFile(join(folder, file), "utf8")).trim()}\n`);
  }
  return parts.join(`\n${"-".repeat(80)}\n\n`);
}

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
for (const [name, entry] of Object.entries(PAGES)) {
  const made = await build({ ...common, entryPoints: { [name]: entry }, outdir: out, plugins: [workers] });
  note(made.metafile);
  for (const file of made.outputFiles) await writeFile(file.path, file.contents);
}
await writeFile(join(out, "LICENSES.txt"), await licences());
