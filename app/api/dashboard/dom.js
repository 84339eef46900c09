// Elements in one expression, and lists that keep their elements (and so focus and selection) when data comes anew.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function setText(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) {
    element.textContent = wanted;
  }
}

export function setAttribute(element, name, value) {
  const wanted = value === true ? "" : value;
  if (wanted === null || wanted === undefined || wanted === false) {
    element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(wanted)) {
    element.setAttribute(name, wanted);
  }
}

export function byId(id) {
  return document.getElementById(id);
}

/** A list of views, one an item: made by `make(item)`, told by `view.update(item, …)`, removed with their item. */
export class KeyedViews {
  #parent;
  #make;
  #views = new Map();

  constructor(parent, make) {
    this.#parent = parent;
    this.#make = make;
  }

  get(key) {
    return this.#views.get(key);
  }

  render(items, keyOf, ...context) {
    const focused = document.activeElement;
    const keys = new Set(items.map(keyOf));
    for (const [key, view] of this.#views) {
      if (!keys.has(key)) {
        view.element.remove();
        this.#views.delete(key);
      }
    }
    let next = this.#parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      let view = this.#views.get(key);
      if (!view) {
        view = this.#make(item);
        this.#views.set(key, view);
      }
      view.update(item, ...context);
      if (view.element === next) {
        next = next.nextElementSibling;
      } else {
        this.#parent.insertBefore(view.element, next);
      }
    }
    // An element that is moved loses the focus, although it is still there.
    if (focused !== document.activeElement && focused?.isConnected) {
      focused.focus({ preventScroll: true });
    }
  }
}
