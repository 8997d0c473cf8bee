from django.db import models
from django.shortcuts import redirect
from wagtail.admin.panels import FieldPanel
from wagtail.fields import RichTextField
from wagtail.images.models import Image
from wagtail.models import Page

from .forms import PictureForm


class HomePage(Page):
    cover = models.ForeignKey(Image, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    body = RichTextField(blank=True)

    content_panels = [*Page.content_panels, FieldPanel("cover"), FieldPanel("body")]

    def serve(self, request, *args, **kwargs):
        """The page; a reader's picture is taken where the page itself is."""
        form = PictureForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            image = Image.objects.create(title=form.cleaned_data["title"], file=form.cleaned_data["file"])
            ReaderPicture.objects.create(image=image)
            return redirect(self.get_url(request))
        request.picture_form = form
        return super().serve(request, *args, **kwargs)

    def get_context(self, request, *args, **kwargs):
        pictures = ReaderPicture.objects.select_related("image").order_by("-id")
        form = getattr(request, "picture_form", PictureForm())  # an editor's preview has none
        return super().get_context(request, *args, **kwargs) | {"form": form, "pictures": pictures}


class ReaderPicture(models.Model):
    """A picture of a reader; to take it down, an editor deletes the image."""

    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="+")
