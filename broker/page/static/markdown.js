// The Markdown that outputs are made of: headings, lists, tables, code, quotes, emphasis, links. For the sandbox only.

const escape = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

const inline = (text) => text.split(/(`[^`]+`)/).map((part, at) => (at % 2 ? `<code>${escape(part.slice(1, -1))}</code>` : escape(part)
  .replace(/!\[([^\]]*)\]\((data:image[^)\s]*)\)/g, '<img alt="$1" src="$2">')
  .replace(/\[([^\]]+)\]\(([^)\s]+)\)/g, '<u title="$2">$1</u>')
  .replace(/(\*\*|__)(?=\S)(.+?)\1/g, "<strong>$2</strong>")
  .replace(/(?<![\w*])([*_])(?=\S)(.+?)\1(?!\w)/g, "<em>$2</em>"))).join("");

const cells = (row, tag) => row.replace(/^\s*\||\|\s*$/g, "").split("|").map((cell) => `<${tag}>${inline(cell.trim())}</${tag}>`).join("");

const BLOCKS = [
  [/^(#{1,6})\s+(.*?)\s*#*$/, (lines, [, signs, text]) => (lines.shift(), `<h${signs.length}>${inline(text)}</h${signs.length}>`)],
  [/^\s*(```|~~~)/, (lines, [, fence]) => {
    lines.shift();
    const code = take(lines, (line) => !line.trim().startsWith(fence));
    lines.shift();
    return `<pre><code>${escape(code.join("\n"))}</code></pre>`;
  }],
  [/^\s*([-*_])(\s*\1){2,}\s*$/, (lines) => (lines.shift(), "<hr>")],
  [/^\s*[-*+]\s+/, (lines, match) => list(lines, "ul", /^\s*[-*+]\s+/)],
  [/^\s*\d+[.)]\s+/, (lines) => list(lines, "ol", /^\s*\d+[.)]\s+/)],
  [/^\s*>/, (lines) => `<blockquote>${markdown(take(lines, (line) => /^\s*>/.test(line)).map((line) => line.replace(/^\s*> ?/, "")).join("\n"))}</blockquote>`],
];

function take(lines, wanted) {
  const taken = [];
  while (lines.length && wanted(lines[0])) taken.push(lines.shift());
  return taken;
}

function list(lines, tag, mark) {
  const items = [];
  for (const line of take(lines, (line) => mark.test(line) || (/^\s+\S/.test(line)))) {
    if (mark.test(line)) items.push(line.replace(mark, ""));
    else items[items.length - 1] += ` ${line.trim()}`;
  }
  return `<${tag}>${items.map((item) => `<li>${inline(item)}</li>`).join("")}</${tag}>`;
}

function table(lines) {
  const [head, , ...rows] = take(lines, (line) => line.includes("|"));
  return `<table><thead><tr>${cells(head, "th")}</tr></thead><tbody>${rows.map((row) => `<tr>${cells(row, "td")}</tr>`).join("")}</tbody></table>`;
}

export function markdown(source) {
  const lines = source.split("\n");
  const made = [];
  while (lines.length) {
    const [line] = lines;
    const block = BLOCKS.find(([pattern]) => pattern.test(line));
    if (!line.trim()) lines.shift();
    else if (block) made.push(block[1](lines, line.match(block[0])));
    else if (line.includes("|") && /^[\s|:-]*-[\s|:-]*$/.test(lines[1] ?? "")) made.push(table(lines));
    else made.push(`<p>${take(lines, (next) => next.trim() && !BLOCKS.some(([pattern]) => pattern.test(next))).map(inline).join("<br>")}</p>`);
  }
  return made.join("\n");
}
