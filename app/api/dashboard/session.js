// The token: it comes in the address's fragment, which browsers never send, and is kept for this tab alone.

const KEY = "vde-multilink-token";

export function takeTokenFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token !== null) {
    sessionStorage.setItem(KEY, token.trim());
    history.replaceState(null, "", location.pathname + location.search);
  }
  return token !== null;
}

export const token = () => sessionStorage.getItem(KEY) ?? "";
export const keepToken = (text) => sessionStorage.setItem(KEY, text.trim());
