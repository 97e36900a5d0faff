// Walks through the operator's pages in Chromium, as told on the command line, and says what it saw as JSON.
//   node drive.mjs CHROMIUM BASE TOKEN DIR    (playwright-core and axe-core are in DIR/node_modules; screenshots go to DIR)
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [chromium_path, base, token, dir] = process.argv.slice(2);
const require = createRequire(`${dir}/x.js`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const said = { errors: [], elsewhere: [], violations: [], sideways: [], seen: {} };

const browser = await chromium.launch({ executablePath: chromium_path, args: ["--no-sandbox", "--disable-gpu"] });

async function page_of(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => message.type() === "error" && said.errors.push(message.text()));
  page.on("pageerror", (error) => said.errors.push(String(error)));
  page.on("request", (request) => request.url().startsWith(base + "/") || said.elsewhere.push(request.url()));
  return page;
}

async function judge(page, name) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  if (wide) said.sideways.push(name);
  // The policy of the page lets no script in but its own; the judge's comes by the debugger.
  const found = await page.evaluate(`${axe}; axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "best-practice"] })`);
  for (const it of found.violations) said.violations.push(`${name}: ${it.id}: ${it.nodes.map((node) => node.html).join(" | ").slice(0, 300)}`);
}

for (const scheme of ["light", "dark"]) {
  for (const width of [360, 1600]) {
    const page = await page_of({ viewport: { width, height: 900 }, colorScheme: scheme });
    for (const [path, name] of [["/", "overview"], ["/live", "live"], ["/upstreams", "upstreams"], ["/login", "login"]]) {
      await page.goto(base + path);
      await judge(page, `${name} ${width} ${scheme}`);
      await page.screenshot({ path: `${dir}/${name}-${width}-${scheme}.png`, fullPage: true });
    }
    await page.context().close();
  }
}

// Without scripts: sign in, hash everything, sign out.
const plain = await page_of({ javaScriptEnabled: false, viewport: { width: 900, height: 900 } });
await plain.goto(base + "/live");
said.seen.disabled = await plain.locator("form[action='/ui/verify'] button").isDisabled();
await plain.goto(base + "/login");
await plain.fill("#token", "of-somebody-else-altogether");
await plain.click("main button");
said.seen.wrong = await plain.locator("[role=status]").innerText();
await plain.fill("#token", token);
await plain.click("main button");
said.seen.after_login = plain.url();
await plain.goto(base + "/live");
await plain.click("form[action='/ui/verify'] button");
said.seen.begun = await plain.locator("[role=status]").innerText();
await plain.click("header form button");
said.seen.out = await plain.locator("[role=status]").innerText();

// With scripts the first page looks again by itself, and the keyboard leads everywhere.
const live = await page_of({ viewport: { width: 1200, height: 900 } });
await live.goto(base + "/");
const again = await live.waitForResponse((response) => response.url() === base + "/", { timeout: 15000 });
said.seen.again = again.status();
await live.keyboard.press("Tab");
said.seen.first_tab = await live.evaluate(() => document.activeElement.textContent);
await browser.close();
console.log(JSON.stringify(said));
