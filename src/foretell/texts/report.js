(async () => {
  const old = () => document.querySelectorAll(".old").forEach((note) => { note.style.display = "block"; });
  if (!("DecompressionStream" in window)) return old();
  const packed = document.getElementById("library").textContent;
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  const config = { responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };
  const boxes = [...document.querySelectorAll(".figure")];
  for (const box of boxes) {
    const figure = JSON.parse(document.getElementById(box.id + "-data").textContent);
    await Plotly.newPlot(box, figure.data, figure.layout, config);
  }
  window.addEventListener("beforeprint", () => boxes.forEach((box) => Plotly.Plots.resize(box)));
})();
