from django import forms
from wagtail.images.fields import WagtailImageField


class PictureForm(forms.Form):
    title = forms.CharField(max_length=100)
    file = WagtailImageField()
