// What can be seen to be wrong for people who do not see, see little, or use no mouse, after WCAG 2.2 AA.
(() => {
  const found = [];
  const complain = (rule, element) => found.push(`${rule}: ${element.outerHTML.slice(0, 160)}`);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = (element) => element.checkVisibility && element.checkVisibility();
  const named = (element) => (element.getAttribute('aria-label') || element.labels && element.labels[0]
    && element.labels[0].textContent || element.textContent || '').trim();
  if (!document.documentElement.lang) found.push('no language');
  if (all('h1').length !== 1) found.push('not one h1');
  let level = 0;
  for (const heading of all('h1, h2, h3, h4')) {
    const own = Number(heading.tagName[1]);
    if (own > level + 1) complain('heading skips a level', heading);
    level = own;
  }
  for (const image of all('img')) if (!image.alt) complain('picture without words', image);
  for (const canvas of all('canvas, svg[role=img]')) {
    const title = canvas.querySelector('title');
    if (!canvas.getAttribute('aria-label') && !(title && title.textContent)) complain('picture without words', canvas);
  }
  for (const control of all('input, select, button, a[href], [tabindex="0"]')) {
    if (!named(control)) complain('control without a name', control);
  }
  for (const table of all('table')) {
    if (!table.caption || !table.caption.textContent.trim()) complain('table without a caption', table);
    for (const cell of table.querySelectorAll('th')) if (!cell.scope) complain('head without a scope', cell);
    for (const row of table.tBodies[0].rows) if (row.cells[0].tagName !== 'TH') complain('row without a head', row);
  }
  const ids = all('[id]').map((element) => element.id);
  for (const id of ids) if (ids.filter((other) => other === id).length > 1) found.push(`id twice: ${id}`);
  for (const link of all('a[href^="#"]')) if (!document.querySelector(link.getAttribute('href'))) complain('leads nowhere', link);
  if (!document.querySelector('main') || !document.querySelector('nav[aria-label]')) found.push('landmarks lack');
  const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (colour) => {
    const [red, green, blue] = parts(colour).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  for (const element of all('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !shown(element) || element.closest('script, noscript') || element.disabled) continue;
    const style = getComputedStyle(element);
    const [front, back] = [light(element.closest('svg') ? style.fill : style.color), light(ground(element))];
    const contrast = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (contrast < 4.5) complain(`contrast ${contrast.toFixed(1)}`, element);
  }
  return found;
})();
