// Light, dark, or as the system has it. A classic script in the head, so that no page flashes in the wrong colours.
"use strict";

(() => {
  const KEY = "vde-multilink-theme";
  const CHOICES = ["auto", "light", "dark"];
  const WORDS = { auto: "Colours: as the system has them", light: "Colours: light", dark: "Colours: dark" };

  function stored() {
    try {
      const choice = localStorage.getItem(KEY);
      return CHOICES.includes(choice) ? choice : "auto";
    } catch {
      return "auto"; // Storage is turned off.
    }
  }

  function apply(choice) {
    document.documentElement.dataset.theme = choice;
  }

  function label(button, choice) {
    button.setAttribute("aria-label", WORDS[choice]);
    button.title = WORDS[choice];
  }

  apply(stored());
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    let choice = stored();
    label(button, choice);
    button.addEventListener("click", () => {
      choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
      apply(choice);
      label(button, choice);
      try {
        localStorage.setItem(KEY, choice);
      } catch {
        // It then holds for this page only.
      }
    });
  });
})();
