// The model card: the part of Markdown that export writes, as elements whose content is text only.

function make(name, content = "", attributes = {}) {
  const element = document.createElement(name);
  element.append(...[content].flat());
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function inline(line) {
  const parts = line.split(/(\*\*.+?\*\*|`[^`]+`)/);
  const plain = (part) => part.replace(/\\(.)/g, "$1");
  return parts.filter(Boolean).map((part) => {
    if (part.startsWith("**")) return make("strong", plain(part.slice(2, -2)));
    return part.startsWith("`") ? make("code", part.slice(1, -1)) : plain(part);
  });
}

function renderCard(markdown) {
  const found = [];
  const lines = markdown.replace(/^---\n[\s\S]*?\n---\n/, "").split("\n");
  const cells = (line) => line.trim().slice(1, -1).split(/(?<!\\)\|/).map((cell) => cell.trim());
  while (lines.length) {
    const block = [lines.shift()];
    const [first] = block;
    const heading = first.match(/^(#+) (.*)/);
    const kind = ["|", "- "].find((start) => first.startsWith(start));
    const same = (line) => line && (kind ? line.startsWith(kind) : !/^(#+ |\||- )/.test(line));
    while (!heading && first && lines.length && same(lines[0])) block.push(lines.shift());
    if (heading) found.push(make(`h${Math.min(6, heading[1].length + 1)}`, inline(heading[2])));
    else if (kind === "- ") found.push(make("ul", block.map((line) => make("li", inline(line.slice(2))))));
    else if (kind === "|") {
      const [head, , ...rows] = block.map(cells);
      const row = (name) => (values) => make("tr", values.map((value) => make(name, inline(value))));
      found.push(make("table", [make("thead", row("th")(head)), make("tbody", rows.map(row("td")))]));
    } else if (first) found.push(make("p", inline(block.join(" "))));
  }
  return found;
}
