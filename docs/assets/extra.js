/* What the theme leaves out for people who do not use a mouse or do not see the page. */
document$.subscribe(() => {
  const search = document.querySelector(".md-search");
  search.setAttribute("aria-label", search.querySelector("input").placeholder);
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) table.tabIndex = 0;
});
