// Handles jobs of kind `mail.render`: fills in a template in Markdown and makes a mail of it, as HTML and as text.
//
// Input:  {"template": "# Hello, {{name}}\n…"}  or  {"file": "/templates/welcome.md"}  from a granted folder,
//         with {"to": "ann@example.org", "values": {"name": "Ann"}}
//         and, if somebody shall send it, {"send": "mail.send"}: the kind of a job that is enqueued with the mail.
// Output: {"to", "subject", "html", "text"}
//
// The first heading is the subject. A placeholder without a value fails for good: half a mail is worse than none. Values
// are text, never markup, whoever wrote them; a link of a template leads to http, https or mailto.

import MarkdownIt from "markdown-it";
import { handler, permanent } from "sandhog-sdk";

export const render = handler(
  "mail.render",
  (ctx, { to, template, file, values, send }) => {
    const source = template ?? ctx.files.readText(file);
    const mail = { to, ...compose(source, values) };
    if (send !== undefined) ctx.enqueue(send, mail, { uniqueKey: `mail ${ctx.idempotencyKey}` });
    ctx.state.increment("rendered");
    ctx.log.info("rendered a mail", { characters: mail.html.length, template: file ?? "inline" });
    return mail;
  },
  { input: parseInput },
);

function parseInput(input) {
  const { to, template, file, values = {}, send } = input ?? {};
  if (typeof to !== "string" || !to.includes("@")) throw new TypeError("`to` is a mail address");
  if ((typeof template === "string") === (typeof file === "string")) throw new TypeError("one of `template` and `file` is given, as text");
  if (typeof values !== "object" || values === null || Array.isArray(values)) throw new TypeError("`values` is an object");
  if (send !== undefined && typeof send !== "string") throw new TypeError("`send` is a kind of job");
  return { to, template, file, values, send };
}

/** The subject, HTML and text of a template with these values. */
export function compose(template, values) {
  const subject = /^#\s+(.+?)\s*$/m.exec(template)?.[1];
  if (subject === undefined) throw permanent("the template has no heading to be the subject: a line such as `# Welcome`");
  const html = markdown.render(filled(template, values, escapeMarkdown));
  return { subject: filled(subject, values, oneLine), html, text: filled(template, values, String) };
}

function filled(text, values, written) {
  return text.replaceAll(/\{\{\s*([\w.-]+)\s*\}\}/g, (_, name) => {
    if (!Object.hasOwn(values, name)) throw permanent(`the template wants \`${name}\`, and \`values\` has none`);
    return written(String(values[name]));
  });
}

// A line break in a subject would begin another header of the mail.
const oneLine = (text) => text.replaceAll(/\s+/g, " ");

// A character reference can't begin markup, in Markdown or in HTML. A line break could begin a list or a heading.
const escapeMarkdown = (text) => oneLine(text).replaceAll(/[!-/:-@[-`{-~]/g, (mark) => `&#${mark.codePointAt(0)};`);

// HTML in a template is shown, not obeyed; so is a link to anything else, and a picture, which would tell who reads.
const markdown = new MarkdownIt({ html: false });
markdown.validateLink = (href) => /^(https?|mailto):/i.test(href);
markdown.renderer.rules.image = (tokens, at) => markdown.utils.escapeHtml(tokens[at].content);
