"""Small charts as inline SVG: colours come from the page's CSS, so that they follow dark mode and print."""
