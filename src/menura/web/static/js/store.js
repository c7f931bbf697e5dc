// What the page remembers in the browser; where that is blocked, until it is closed.

const spare = new Map();

function kept(area) {
  return {
    get(name) {
      try {
        return window[area].getItem(name) ?? spare.get(area + name) ?? null;
      } catch {
        return spare.get(area + name) ?? null;
      }
    },
    set(name, value) {
      try {
        window[area].setItem(name, value);
      } catch {
        spare.set(area + name, value);
      }
    },
    remove(name) {
      spare.delete(area + name);
      try {
        window[area].removeItem(name);
      } catch {
        // Nothing could be kept there.
      }
    },
  };
}

// To the page's other tabs, with which one that may keep nothing has nothing in common.
export function channel(name) {
  try {
    return new BroadcastChannel(name);
  } catch {
    return null;
  }
}

export const local = kept("localStorage");
export const session = kept("sessionStorage");
