// On a sale's form: shows the picture that was chosen before it is saved. Without a script it is seen once it is.
const WIDTH = 240;

const input = document.getElementById("id_image");
const preview = document.querySelector(".field-preview .readonly");
const saved = preview ? [...preview.childNodes] : [];

async function drawn(file) {
  const picture = await createImageBitmap(file);
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = Math.max(1, Math.round((WIDTH * picture.height) / picture.width));
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "The picture that you chose; it is not saved yet");
  return canvas;
}

async function show() {
  const [file] = input.files;
  const shown = file
    ? await drawn(file).then((canvas) => [canvas], () => ["This file is not a picture. Choose a JPEG, PNG or WebP."])
    : saved;
  // Another may have been chosen while this one was drawn.
  if (file === input.files[0]) preview.replaceChildren(...shown);
}

if (input && preview) input.addEventListener("change", show);
