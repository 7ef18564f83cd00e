// Words as text and back: the grammar of the command line, as far as chips need it.

/** "road, person|pedestrian" as classes, each as it was typed. */
export function split(text) {
  return text.split(/[,;\n\t]/).map(tidy).filter(Boolean);
}

function tidy(text) {
  return text.split("|").map((word) => word.trim().replace(/\s+/g, " ")).filter(Boolean).join("|");
}

/** What results call a class: its name before a colon, else its first word. */
export function nameOf(text) {
  const named = text.match(/^([^|:]+):\s+\S/);
  return (named ? named[1] : text.split("|")[0]).trim();
}

/** Adds classes to a list, those that are there already left out. */
export function joined(list, more) {
  const known = new Set(list.map((each) => nameOf(each).toLowerCase()));
  const added = [...list];
  for (const each of more) {
    const name = nameOf(each).toLowerCase();
    if (!known.has(name)) {
      known.add(name);
      added.push(each);
    }
  }
  return added;
}

/** A word that a warning is about, and the one that it proposes; undefined where it names none. */
export function advice(warning) {
  const about = warning.match(/has not learned '([^']+)'/);
  const instead = warning.match(/(?:a word it knows: |did you mean )'([^']+)'/);
  return { about: about?.[1], instead: instead?.[1] };
}

/** A text for a shell of any kind of Unix, in quotes where it needs them. */
export function quoted(text) {
  if (/^[\w./:@%+=-]+$/.test(text)) return text;
  return /["$`\\!]/.test(text) ? `'${text.replaceAll("'", "'\\''")}'` : `"${text}"`;
}
